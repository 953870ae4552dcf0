package control

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"shunt/api"
)

// openapi describes all routes; TestOpenAPI makes it of them (go test ./internal/control -run
// OpenAPI -update).
//
//go:embed openapi.json
var openapi []byte

// A route is one thing that can be asked.
type route struct {
	method, path string
	summary      string
	params       []string     // of the URL
	body, answer reflect.Type // nil if there is none
	handle       func(w http.ResponseWriter, r *http.Request, q *question) error
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// answering makes a handler of a question without parameters.
func answering[T any](ask func(Director) T) func(http.ResponseWriter, *http.Request, *question) error {
	return func(w http.ResponseWriter, _ *http.Request, q *question) error {
		write(w, ask(q))
		return nil
	}
}

var selection = []string{"client", "service", "realserver", "protocol", "state", "templates"}

// routes are all questions, in the order of the documents.
var routes = []route{
	{"GET", "/v1/status", "The director at a glance", nil, nil, typeOf[api.Status](), answering(Director.Status)},
	{"GET", "/v1/overview", "Figures for a page that a person looks at", nil, nil, typeOf[api.Overview](), answering(Director.Overview)},
	{"GET", "/v1/services", "Services and their realservers", nil, nil, typeOf[[]api.Service](),
		answering(func(d Director) []api.Service { return orEmpty(d.Services()) })},
	{"GET", "/v1/connections", "The connection table, or what is chosen of it", selection, nil, typeOf[[]api.Connection](), connections},
	{"POST", "/v1/connections/kill", "Ends connections", nil, typeOf[api.Kill](), typeOf[api.Done](), kill},
	{"POST", "/v1/connections/move", "Has connections go to another realserver of their service", nil, typeOf[api.Move](), typeOf[api.Done](), move},
	{"GET", "/v1/neighbours", "Addresses of the realservers and their MACs", nil, nil, typeOf[[]api.Neighbour](),
		answering(func(d Director) []api.Neighbour { return orEmpty(d.Neighbours()) })},
	{"GET", "/v1/explain", "Where a packet would go, and why", []string{"packet"}, nil, typeOf[api.Explanation](), explain},
	{"GET", "/v1/table", "All that ipvsadm lists", nil, nil, typeOf[api.Table](), answering(Director.Table)},
	{"POST", "/v1/changes", "Makes all of these changes, or none", nil, typeOf[[]api.Change](), nil, changes},
	{"POST", "/v1/realservers/drain", "Gives a realserver weight 0", nil, typeOf[api.Servers](), typeOf[[]api.WeightChange](), weighing(Director.Drain)},
	{"POST", "/v1/realservers/enable", "Gives a realserver the weight of before", nil, typeOf[api.Servers](), typeOf[[]api.WeightChange](), weighing(Director.Enable)},
	{"GET", "/v1/config", "The running configuration as a file", nil, nil, typeOf[api.RunningConfig](), func(w http.ResponseWriter, _ *http.Request, q *question) error {
		c, err := q.Config()
		if err == nil {
			write(w, c)
		}
		return err
	}},
	{"POST", "/v1/reload", "Reads the file again", nil, nil, typeOf[api.Reload](), func(w http.ResponseWriter, r *http.Request, q *question) error {
		done, err := q.RereadFile(r.Context(), q.by)
		if err == nil {
			write(w, done)
		}
		return err
	}},
	{"GET", "/v1/openapi.json", "This description", nil, nil, nil, func(w http.ResponseWriter, _ *http.Request, _ *question) error {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openapi) // an error is that of a client that went away
		return nil
	}},
}

// weighing makes a handler of what changes weights.
func weighing(do func(Director, Peer, api.Servers) ([]api.WeightChange, error)) func(http.ResponseWriter, *http.Request, *question) error {
	return func(w http.ResponseWriter, r *http.Request, q *question) error {
		var s api.Servers
		if err := body(w, r, "", &s); err != nil {
			return err
		}
		if !s.Realserver.IsValid() {
			return &api.FieldError{Field: "realserver", Message: "is missing: the address of a realserver"}
		}
		done, err := do(q.Director, q.by, s)
		if err == nil {
			write(w, done)
		}
		return err
	}
}

func explain(w http.ResponseWriter, r *http.Request, q *question) error {
	x, err := q.Explain(r.URL.Query().Get("packet"))
	if err != nil {
		return &api.FieldError{Field: "packet", Message: err.Error()}
	}
	write(w, x)
	return nil
}

// body reads the body of a question.
func body(w http.ResponseWriter, r *http.Request, name string, v any) error {
	large := &http.MaxBytesError{Limit: maxBody}
	err := error(large)
	if r.ContentLength <= maxBody { // which is negative if it is not told
		err = decode(http.MaxBytesReader(w, r.Body, maxBody), name, v)
	}
	if err != nil { // a client that still writes would see a broken pipe, and not the answer
		_, _ = io.CopyN(io.Discard, r.Body, maxBody)
	}
	if errors.As(err, &large) {
		return &api.FieldError{Field: name, Message: fmt.Sprintf("the body is larger than %d MiB", maxBody>>20)}
	}
	return err
}

func changes(w http.ResponseWriter, r *http.Request, q *question) error {
	var list []api.Change
	if err := body(w, r, "changes", &list); err != nil {
		return err
	}
	if len(list) > maxChanges {
		return &api.FieldError{Field: "changes", Message: fmt.Sprintf("there are %d changes; a transaction has at most %d: send several", len(list), maxChanges)}
	}
	for i := range list {
		if err := CheckChange(&list[i], fmt.Sprintf("changes[%d]", i)); err != nil {
			return err
		}
	}
	if err := q.Apply(q.by, list); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// connections streams the table, which may be larger than one would want in memory twice.
func connections(w http.ResponseWriter, r *http.Request, q *question) error {
	s, err := selectionOf(r.URL.Query())
	if err != nil {
		return err
	}
	chosen, err := Matcher(&s, "")
	if err != nil {
		return err
	}
	stream(w, r, q, chosen)
	return nil
}

// chosen checks a selection of which connections are to be changed.
func chosen(s *api.Selection, all bool) (func(*api.Connection) bool, error) {
	if *s == (api.Selection{}) && !all {
		return nil, &api.FieldError{Field: "select", Message: "nothing is chosen: name a client, a service, a realserver, a protocol or a state, or write all"}
	}
	return Matcher(s, "select.")
}

func kill(w http.ResponseWriter, r *http.Request, q *question) error {
	var k api.Kill
	if err := body(w, r, "", &k); err != nil {
		return err
	}
	match, err := chosen(&k.Select, k.All)
	if err != nil {
		return err
	}
	n := q.Kill(match)
	q.log.Info("connections were ended by the control socket", "connections", n, "by", q.by)
	write(w, api.Done{Connections: n})
	return nil
}

func move(w http.ResponseWriter, r *http.Request, q *question) error {
	var m api.Move
	if err := body(w, r, "", &m); err != nil {
		return err
	}
	if !m.To.IsValid() {
		return &api.FieldError{Field: "to", Message: "is missing: the address of a realserver"}
	}
	match, err := chosen(&m.Select, m.All)
	if err != nil {
		return err
	}
	n, err := q.Move(match, m.To)
	if err != nil {
		return err
	}
	q.log.Info("connections were moved by the control socket", "connections", n, "to", m.To, "by", q.by)
	write(w, api.Done{Connections: n})
	return nil
}
