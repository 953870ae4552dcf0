package control

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"shunt/api"
)

// serve answers on a socket by a function.
func serve(t *testing.T, answer http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: answer}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	return socket
}

// The client has one method for each route, and no method asks for what is not there.
func TestClientHasAllRoutes(t *testing.T) {
	h := handler(fake{}, false, slog.New(slog.DiscardHandler))
	asked := map[string]string{} // by route, the method that asks for it
	method := ""
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked[r.Method+" "+r.URL.Path] = method
		h.ServeHTTP(w, r)
	})
	c := reflect.ValueOf(api.NewClient(socket))
	for i := range c.NumMethod() {
		method = c.Type().Method(i).Name
		args := []reflect.Value{reflect.ValueOf(context.Background())}
		for j := 1; j < c.Method(i).Type().NumIn(); j++ {
			switch in := c.Method(i).Type().In(j); in.Kind() {
			case reflect.Func:
				args = append(args, reflect.ValueOf(func(api.Connection) bool { return true }))
			case reflect.Pointer:
				args = append(args, reflect.New(in.Elem()))
			default:
				args = append(args, reflect.Zero(in))
			}
		}
		c.Method(i).Call(args)
	}
	var want []string
	for _, rt := range routes {
		want = append(want, rt.method+" "+rt.path)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(asked)); !slices.Equal(got, want) || c.NumMethod() != len(want) {
		t.Errorf("the client asks for %v with %d methods; there are %v", asked, c.NumMethod(), want)
	}
}
