// Package director is the composition root of `shunt run`: it opens the rings, builds the engine,
// resolves the realservers, takes the VIPs and gives everything back at the end.
//
// Everything outside the engine follows it by one way: package delta. Sources of changes are the
// start, the file ([Director.Reload]), the control socket ([Director.Apply]) and the interfaces
// (follow.go). Subscribers are the resolver, the guard, the filters of the rings, the responder
// with its announcer, and a warning about VIPs of this host: see subscribe for their order.
package director
