package resp

import (
	"strconv"
	"testing"
)

// FuzzParseInt: exactly the strings that printing a number gives are numbers.
func FuzzParseInt(f *testing.F) {
	for _, seed := range []string{"", "0", "-0", "00", "+1", "-1", " 1", "1 ", "-", "9223372036854775807", "9223372036854775808",
		"-9223372036854775808", "-9223372036854775809", "18446744073709551617", "1.0", "0x1", "1\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseInt([]byte(s))
		want, err := strconv.ParseInt(s, 10, 64)
		canonical := err == nil && strconv.FormatInt(want, 10) == s
		if ok != canonical || ok && got != want {
			t.Errorf("ParseInt(%q) = %d, %v; want %d, %v", s, got, ok, want, canonical)
		}
	})
}
