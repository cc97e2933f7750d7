package config

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Size is a number of bytes as people write it: 4096, 64MiB, 1GiB.
type Size uint64

var units = []struct {
	name  string
	bytes uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// Set implements pflag.Value.
func (s *Size) Set(text string) error {
	number, unit := text, uint64(1)
	for _, u := range units {
		if n := len(text) - len(u.name); n > 0 && strings.EqualFold(text[n:], u.name) {
			number, unit = strings.TrimSpace(text[:n]), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return fmt.Errorf("expected a size like 64MiB or 1GiB")
	}
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 {
		return fmt.Errorf("more bytes than a 64-bit number counts")
	}
	*s = Size(lo)
	return nil
}

// String implements pflag.Value: the largest unit that leaves no rest.
func (s *Size) String() string {
	for _, u := range units {
		if n := uint64(*s); n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}

// Type implements pflag.Value.
func (s *Size) Type() string { return "size" }
