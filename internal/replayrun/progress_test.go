package replayrun

import (
	"bytes"
	"strings"
	"testing"
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
	var b bytes.Buffer
	showProgress(&b, src, time.Now())()
	showProgress(nil, src, time.Now())()
	if b.Len() > 0 {
		t.Errorf("%q", &b)
	}
	stop := showProgress(&b, src, time.Now().Add(-time.Minute))
	time.Sleep(2*beat + beat/2)
	stop()
	if s := b.String(); !strings.Contains(s, "100 % of 24 bytes") || !strings.HasSuffix(s, "\r\x1b[K") {
		t.Errorf("%q", s)
	}
}

func TestBytesOf(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 10239: "10239 bytes", 10240: "10 KiB", 64 << 20: "64 MiB", 11 << 30: "11 GiB"} {
		if got := bytesOf(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}
