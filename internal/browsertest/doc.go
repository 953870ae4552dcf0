// Package browsertest looks at the status page as its user does: in a real browser, over a director
// that runs in the laboratory. Its tests need Chromium and have the build tag browser; .ci/browser
// installs the one and gives the other.
package browsertest
