package replayrun

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"shunt/forwarder/replay"
)

func TestProgress(t *testing.T) {
	header := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0}
	for _, c := range []struct {
		size int64
		want string
	}{{96, " 25 % of 96 bytes, 6s left"}, {0, "24 bytes read"}, {10, "24 bytes read"}, {24 << 20, "  0 % of 24 MiB, 582h32m30s left"}} {
		src, err := replay.New("x", bytes.NewReader(header), c.size)
		if err != nil {
			t.Fatal(err)
		}
		if got := progress(src, 2*time.Second); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// What takes no longer than a second says nothing; what takes longer leaves no trace on the line.
func TestShowProgress(t *testing.T) {
	src, err := replay.New("x", bytes.NewReader([]byte{0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 1, 0, 0, 0}), 24)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		start := time.Now()
		stop := showProgress(&b, src, start)
		time.Sleep(quiet)
		stop()
		showProgress(nil, src, start)()
		if b.Len() > 0 {
			t.Errorf("%q", &b)
		}
		stop = showProgress(&b, src, start)
		time.Sleep(2*beat + beat/2)
		stop()
		const line = "\r\x1b[K100 % of 24 bytes, 0s left"
		if s := b.String(); s != line+line+"\r\x1b[K" {
			t.Errorf("%q", s)
		}
	})
}

func TestBytesOf(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 10239: "10239 bytes", 10240: "10 KiB", 64 << 20: "64 MiB", 11 << 30: "11 GiB"} {
		if got := bytesOf(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}
