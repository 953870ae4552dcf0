package statuspage

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// certificate writes one for 127.0.0.1, and returns who trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	from := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, from, from, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// With a file of TLS and users, page and metrics are for those who know a password; and a
// certificate may change while it runs.
func TestTLSAndPasswords(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "web.yaml")
	text := fmt.Sprintf("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {prometheus: %q}\n", hash)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Listen("127.0.0.1:0", file, &fake{o: overview(10, 1000)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Serve()
	get := func(pool *x509.CertPool, scheme, path, password string) (int, error) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
		req, err := http.NewRequest("GET", scheme+"://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("prometheus", password)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, nil
	}
	for _, path := range []string{"/", "/metrics", "/status.json"} {
		for password, want := range map[string]int{"": 401, "wrong": 401, "secret": 200} {
			if got, err := get(pool, "https", path, password); err != nil || got != want {
				t.Errorf("%s with the password %q: %d, %v; want %d", path, password, got, err, want)
			}
		}
	}
	if got, err := get(pool, "http", "/", "secret"); err == nil && got == 200 {
		t.Error("it answers without TLS")
	}
	renewed := certificate(t, dir)
	if got, err := get(renewed, "https", "/metrics", "secret"); err != nil || got != 200 {
		t.Errorf("with another certificate: %d, %v", got, err)
	}
	if _, err := get(pool, "https", "/metrics", "secret"); err == nil {
		t.Error("the old certificate is still shown")
	}
}

// A file that is wrong, or not there, keeps the page from being served, and the error names it.
func TestWrongWebConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	for _, text := range []string{"", "tls_server_config: {cert_file: none.pem, key_file: none.pem}\n", "basic_auth_users: {a: not-a-hash}\n", "basic_auth: 1\n"} {
		if text != "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Listen("127.0.0.1:0", file, &fake{}, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "http.web_config: "+file) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// What the HTTP server itself has to say is a line of the log like all others.
func TestServersOwnLines(t *testing.T) {
	var log lockedBuffer
	s, err := Listen("127.0.0.1:0", "", &fake{o: overview(0, 0)}, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.Serve()
	s.http.ErrorLog.Printf("http: Accept error: accept tcp 127.0.0.1:9405: too many open files; retrying in 5ms")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var line struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(log.String()), &line); err != nil || line.Level != "WARN" || !strings.Contains(line.Msg, "Accept error") {
		t.Errorf("%+v, %v: %s", line, err, log.String())
	}
}
