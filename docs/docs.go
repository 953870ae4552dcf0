// Package docs has those documents of this folder that the program itself carries.
package docs

import _ "embed"

// Configuration is docs/configuration.md: `shunt man` makes shunt.yaml(5) of it.
//
//go:embed configuration.md
var Configuration string
