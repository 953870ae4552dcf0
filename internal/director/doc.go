// Package director is the composition root of `shunt run`: it opens the rings, builds the engine, resolves the realservers,
// takes the VIPs and gives everything back at the end.
//
// Order matters. Nothing is announced before frames can be forwarded, and no frame is let in before the engine knows the
// services: see [Start]. The end is the reverse.
package director
