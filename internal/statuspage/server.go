// Package statuspage is the director in a browser: one page that shows what it does, figures for
// scripts, and metrics for Prometheus. It reads, and can change nothing.
//
// The page is made whole by the server, every time; a small script fetches it again every two
// seconds and changes what has changed. So a browser without scripts sees the same, and one piece
// of code (page.html) says how things look. Nothing on it comes from elsewhere, which the
// Content-Security-Policy makes sure of.
package statuspage

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/net/netutil"

	"shunt/api"
	"shunt/internal/metrics"
)

// Director is what is asked for the figures. It may be called from several goroutines.
type Director interface {
	Overview() api.Overview
}

//go:embed assets
var assets embed.FS

// A Server has one address, on which it answers from Serve until Close.
type Server struct {
	ln   net.Listener
	web  string // the file of TLS and users, "" if there is none
	d    Director
	log  *slog.Logger
	http http.Server
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Listen takes addr, an address and a port. d, of which is told, is not asked before Serve.
// webConfig is a file of TLS and users as Prometheus's exporters have it, or "": it is checked
// here, and read again for each connection, so that certificates may change.
func Listen(addr, webConfig string, d Director, log *slog.Logger) (*Server, error) {
	if err := web.Validate(webConfig); err != nil {
		return nil, fmt.Errorf("http.web_config: %s: %w", webConfig, err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w; choose another address, or \"off\"", err)
	}
	return &Server{ln: ln, web: webConfig, d: d, log: log, stop: func() {}}, nil
}

// Serve answers from now on. It is called once.
func (s *Server) Serve() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	h := newHistory(s.d)
	s.http = http.Server{
		Handler: guard(handler(h, s.d), loopback(s.ln.Addr())), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 1 << 14,
		ErrorLog: stdlog.New(lines{s.log}, "", 0),
	}
	s.wg.Go(func() { h.run(ctx) })
	s.wg.Go(func() {
		if err := s.serve(); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the status page ended", "address", s.ln.Addr(), "error", err)
		}
	})
}

// lines are those of the HTTP server itself, for the log. Anybody can make a handshake fail, as
// often as he likes.
type lines struct{ log *slog.Logger }

func (l lines) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.Contains(line, []byte("TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSpace(line)))
	return len(line), nil
}

// maxConns is how many browsers and scrapers may be connected at a time; more wait.
const maxConns = 256

// serve answers until it is closed, by TLS and to known users only where the file says so.
func (s *Server) serve() error {
	ln := netutil.LimitListener(s.ln, maxConns)
	if s.web == "" {
		return s.http.Serve(ln)
	}
	return web.Serve(ln, &s.http, &web.FlagConfig{WebConfigFile: &s.web}, s.log)
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close ends the server, and the answers under way after half a second.
func (s *Server) Close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	if closed := s.ln.Close(); closed != nil && !errors.Is(closed, net.ErrClosed) { // it was never served
		err = errors.Join(err, closed)
	}
	s.wg.Wait()
	return err
}

func handler(h *history, d Director) http.Handler {
	mux := http.NewServeMux()
	answer := func(kind string, body func() ([]byte, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			b, err := body()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(b)
		}
	}
	mux.HandleFunc("GET /{$}", answer("text/html; charset=utf-8", h.html))
	mux.HandleFunc("GET /status.json", answer("application/json", h.json))
	mux.Handle("GET /metrics", metrics.Handler(d))
	for _, name := range []string{"style.css", "update.js", "icon.svg"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, assets, "assets/"+name)
		})
	}
	return mux
}

// policy lets a page have its own style, script and icon, ask its own server, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'"

// guard adds the headers of security, and on a loopback address refuses requests that were meant
// for another name: a page elsewhere whose name was made to point here would otherwise be of one
// origin with ours, and could read it.
func guard(next http.Handler, local bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if local && !localName(r.Host) {
			http.Error(w, "this server listens on a loopback address: ask for it by localhost or by its address", http.StatusMisdirectedRequest)
			return
		}
		head := w.Header()
		head.Set("Content-Security-Policy", policy)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// localName reports whether a Host header names an address, or localhost.
func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	if len(host) > 1 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
