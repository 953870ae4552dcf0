package figures

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Plural writes a number of things: 1 flow, 2 flows. The plural has an s.
func Plural[N int | int32 | uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// Count writes a whole number with sep between thousands.
func Count(x any, sep string) string {
	s := fmt.Sprint(x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + sep + s[i:]
	}
	return s
}

// Short writes a number in three digits or so: 1.23k.
func Short(x float64) string {
	for _, u := range []struct {
		from float64
		unit string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if x >= u.from {
			return digits(x/u.from) + u.unit
		}
	}
	return digits(x)
}

func digits(x float64) string {
	switch {
	case x >= 99.95 || x == math.Trunc(x):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 9.995:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// Bits writes bytes a second as bits a second.
func Bits(bytes float64) string { return unit(8*bytes, "bit/s") }

// Size writes bytes.
func Size(n uint64) string { return unit(float64(n), "B") }

// unit puts the unit behind, and the letter of thousands with it.
func unit(x float64, u string) string {
	s := Short(x)
	if last := s[len(s)-1]; last > '9' {
		return s[:len(s)-1] + "\u00a0" + string(last) + u
	}
	return s + "\u00a0" + u
}

// Seconds writes a short time.
func Seconds(s float64) string {
	switch {
	case s == 0:
		return "–"
	case s < 1e-3:
		return digits(s*1e6) + "\u00a0µs"
	case s < 1:
		return digits(s*1e3) + "\u00a0ms"
	}
	return digits(s) + "\u00a0s"
}

// Ago writes how long something is.
func Ago(d time.Duration) string {
	switch d = d.Truncate(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
