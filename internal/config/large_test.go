package config

import (
	"fmt"
	"strings"
	"testing"
)

// large is a configuration of services with ten realservers each.
func large(services int) []byte {
	var b strings.Builder
	b.WriteString("legs:\n  - interface: eth0\n    networks: [10.0.0.0/8]\nservices:\n")
	for i := range services {
		fmt.Fprintf(&b, "  - name: s%d\n    address: 192.168.%d.%d\n    port: 80\n    scheduler: wrr\n    realservers:\n", i, i/250, i%250+1)
		for j := range 10 {
			n := i*10 + j
			fmt.Fprintf(&b, "      - {address: 10.%d.%d.%d, weight: %d}\n", n/62500, n/250%250, n%250+1, j+1)
		}
	}
	return []byte(b.String())
}

// BenchmarkParse10000 reads 10,000 services of ten realservers each.
func BenchmarkParse10000(b *testing.B) {
	text := large(10000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("x", text); err != nil {
			b.Fatal(err)
		}
	}
}

// Errors of a long list have their places.
func TestErrorsOfLargeFile(t *testing.T) {
	text := strings.Replace(string(large(50)), "name: s49", "nmae: s49", 1)
	_, err := Parse("x", []byte(text))
	if err == nil || !strings.HasPrefix(err.Error(), "x:740:5: unknown key") {
		t.Error(err)
	}
	text = strings.Replace(string(large(50)), "192.168.0.50", "192.168.0.500", 1)
	_, err = Parse("x", []byte(text))
	if err == nil || !strings.HasPrefix(err.Error(), "x:741:14: the VIP") {
		t.Error(err)
	}
}
