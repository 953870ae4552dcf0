package wiretest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"shunt/internal/netlab"
)

// uploads has a realserver take uploads, and say how long each was and what its SHA-256 is.
func uploads(mux *http.ServeMux) {
	mux.HandleFunc("POST /", func(rw http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.CopyBuffer(onlyWriter{h}, r.Body, make([]byte, 256<<10))
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(rw, "%d %x", n, h.Sum(nil))
	})
}

// onlyWriter hides what else a writer can do, so that io.CopyBuffer uses the buffer.
type onlyWriter struct{ io.Writer }

// upload sends size bytes, always the same, and checks what arrived.
func (w *world) upload(size int64) {
	w.t.Helper()
	sent := sha256.New()
	body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.url, body)
	w.must(err)
	req.ContentLength = size
	w.browser.Timeout = 0 // the test's own deadline will do
	resp, err := w.browser.Do(req)
	w.must(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	w.must(err)
	if want := fmt.Sprintf("%d %x", size, sent.Sum(nil)); string(answer) != want {
		w.t.Errorf("the realserver got %q, the client sent %s", answer, want)
	}
	s := w.status()
	// Frames that are longer than a slot of the ring, 2 KiB, are longer than the MTU.
	if legOf(&s, "eth0").Oversize == 0 {
		w.t.Error("no frame was longer than the MTU: the offloads were not at work")
	}
	for _, v := range []string{"truncated", "send: too big", "send: failed", "send: leg down", "bad header", "loop guard"} {
		if n := s.Verdicts[v]; n != 0 {
			w.t.Errorf("%d frames: %s", n, v)
		}
	}
	w.t.Logf("%d frames, %d of them longer than the MTU, %d lost to a full ring, %d to a full queue", legOf(&s, "eth0").Received,
		legOf(&s, "eth0").Oversize, legOf(&s, "eth0").RingFull, s.Verdicts["send: queue full"])
}

// A large upload is what direct routing is bad at if it is done badly: with the offloads of the
// interfaces on, the kernel hands out frames of 64 KiB without a checksum, and they must arrive as
// they are.
func TestUpload(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() || race {
		size = 128 << 20
	}
	eachFamily(t, 1, func(t *testing.T, w *world) {
		w.start(w.config("", w.http("rr")))
		if w.family.name == "IPv6" {
			size = min(size, 256<<20)
		}
		w.upload(size)
	})
}

// TestBigTCP is TestUpload with packets longer than an IP packet can say (BIG TCP). The kernel
// hands them out with a length of 0, those of IPv6 with a jumbo payload option. It takes back those
// of IPv4 as they are, and those of IPv6 in pieces.
func TestBigTCP(t *testing.T) {
	size := int64(512 << 20)
	if testing.Short() || race {
		size = 64 << 20
	}
	eachFamily(t, 1, func(t *testing.T, w *world) {
		w.must(w.BigTCP(185_000))
		in, err := w.Director.Capture("eth0", "")
		w.must(err)
		out, err := w.Webs[0].Capture("eth0", "")
		w.must(err)
		w.start(w.config("", w.http("rr")))
		w.upload(size)
		w.must(errors.Join(in.Close(), out.Close()))
		took, gave := bigPackets(in), bigPackets(out)
		t.Logf("the director got %d packets of more than 64 KiB, the realserver %d", took, gave)
		if took == 0 || gave == 0 && w.family.name == "IPv4" {
			t.Error("BIG TCP was not at work")
		}
		if n := w.status().Verdicts["fragmentation needed"]; n != 0 {
			t.Errorf("%d packets: fragmentation needed", n)
		}
	})
}

// bigPackets counts the packets of more than 64 KiB that came to the interface of a capture.
func bigPackets(c *netlab.Capture) (n int) {
	for _, r := range c.Records() {
		if !r.ToHost && r.Length > 66_000 {
			n++
		}
	}
	return n
}
