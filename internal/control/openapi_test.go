package control

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"shunt/api"
)

var update = flag.Bool("update", false, "write openapi.json")

// object is a JSON object whose keys are sorted when it is written.
type object = map[string]any

// describer makes schemas of Go types.
type describer struct{ schemas object }

// schema describes a type; that of a struct is kept under its name.
func (d *describer) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[netip.Addr]():
		return object{"type": "string", "description": "an IP address"}
	case reflect.TypeFor[netip.AddrPort]():
		return object{"type": "string", "description": "an IP address and a port"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Struct:
	default:
		return object{"type": "integer", "format": t.Kind().String()}
	}
	if _, known := d.schemas[t.Name()]; !known {
		properties := object{}
		d.schemas[t.Name()] = object{"type": "object", "properties": properties}
		d.fields(t, properties)
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

func (d *describer) fields(t reflect.Type, properties object) {
	for f := range t.Fields() {
		if f.Anonymous {
			d.fields(f.Type, properties)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "-" {
			properties[name] = d.schema(f.Type)
		}
	}
}

func jsonBody(schema object) object {
	return object{"application/json": object{"schema": schema}}
}

func (d *describer) operation(rt *route) object {
	responses := object{"404": object{"description": "There is no such question; the text says what there is."}}
	op := object{"summary": rt.summary, "responses": responses}
	switch {
	case rt.answer != nil:
		responses["200"] = object{"description": "The answer", "content": jsonBody(d.schema(rt.answer))}
	case rt.body != nil:
		responses["204"] = object{"description": "Done"}
	default:
		responses["200"] = object{"description": "OpenAPI", "content": jsonBody(object{"type": "object"})}
	}
	if rt.body != nil {
		op["requestBody"] = object{"required": true, "content": jsonBody(d.schema(rt.body))}
	}
	if rt.method == "POST" {
		responses["403"] = object{"description": "This is the read-only socket"}
		responses["409"] = object{"description": "Refused: all is as before", "content": jsonBody(d.schema(typeOf[api.Error]()))}
	}
	if rt.body != nil || rt.params != nil {
		responses["400"] = object{"description": "A field is wrong", "content": jsonBody(d.schema(typeOf[api.FieldError]()))}
	}
	var params []any
	for _, p := range rt.params {
		params = append(params, object{"name": p, "in": "query", "required": p == "packet", "schema": object{"type": "string"}})
	}
	if params != nil {
		op["parameters"] = params
	}
	return op
}

// The file that the socket serves describes every route, parameter and field that there is, and no
// other.
func TestOpenAPI(t *testing.T) {
	d := &describer{object{}}
	paths := object{}
	for i := range routes {
		rt := &routes[i]
		if paths[rt.path] == nil {
			paths[rt.path] = object{}
		}
		paths[rt.path].(object)[strings.ToLower(rt.method)] = d.operation(rt)
	}
	want, err := json.MarshalIndent(object{
		"openapi":    "3.1.0",
		"info":       object{"title": "shunt's control socket", "version": "1", "description": "HTTP on a unix socket. docs/control.md says what each field means."},
		"servers":    []any{object{"url": "http://shunt"}},
		"paths":      paths,
		"components": object{"schemas": d.schemas},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openapi, want) {
		t.Error("openapi.json is not what the routes and types are: go test ./internal/control -run OpenAPI -update")
	}
}
