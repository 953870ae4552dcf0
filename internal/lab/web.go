package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"shunt/internal/netlab"
)

// Serve serves the realserver's name, and the handlers of mux, on port 80 of all addresses of h
// until the host ends.
func Serve(h *netlab.Host, mux *http.ServeMux) (stop func(), err error) {
	ln, err := h.Listen("tcp", ":80") // of both families
	if err != nil {
		return nil, err
	}
	if mux == nil {
		mux = http.NewServeMux()
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, h.Name) })
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(ln) }()
	return func() { _ = s.Close() }, nil
}

// A Page is the result of one fetch.
type Page struct {
	From string // the name that the page says
	Port uint16 // of the client
	V6   bool
}

// Browser returns a client that fetches pages from a host, with a new connection for each.
func Browser(h *netlab.Host) *http.Client {
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				d := &net.Dialer{Timeout: time.Minute / 2}
				c, err := h.Dial(d, network, address)
				if port, ok := ctx.Value(portKey{}).(*uint16); ok && err == nil {
					*port = netip.MustParseAddrPort(c.LocalAddr().String()).Port()
				}
				return c, err
			},
		},
	}
}

type portKey struct{}

// Fetch fetches one page.
func Fetch(ctx context.Context, c *http.Client, url string) (p Page, err error) {
	req, err := http.NewRequestWithContext(context.WithValue(ctx, portKey{}, &p.Port), http.MethodGet, url, nil)
	if err != nil {
		return p, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return p, err
	}
	p.From = strings.TrimSpace(string(b))
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return p, nil
}
