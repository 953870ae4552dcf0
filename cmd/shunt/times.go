package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// longest bounds times, in seconds.
const longest = 1e9

// seconds is a time flag. As in the configuration, a plain number is in seconds.
type seconds time.Duration

func (s *seconds) Set(text string) error {
	if f, err := strconv.ParseFloat(text, 64); err == nil && f >= -longest && f <= longest {
		*s = seconds(f * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("write a time such as 90s or 6m, or a number of seconds")
	}
	*s = seconds(d)
	return nil
}

func (s *seconds) String() string { return time.Duration(*s).String() }

func (s *seconds) Type() string { return "time" }

// timeFlag adds a flag for a time.
func timeFlag(flags *pflag.FlagSet, at *time.Duration, name string, otherwise time.Duration, usage string) {
	*at = otherwise
	flags.Var((*seconds)(at), name, usage)
}
