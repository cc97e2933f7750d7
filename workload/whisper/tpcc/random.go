package tpcc

import (
	"math/rand/v2"
	"strings"
)

// random draws as clauses 2.1.6 and 4.3.2 say.
type random struct {
	*rand.Rand
	p Params
}

// in is a number from low to high, both included.
func (g random) in(low, high int) int { return low + g.IntN(high-low+1) }

// The constants C of clause 2.1.6: any number of the range will do.
const (
	constName     = 123
	constCustomer = 259
	constItem     = 7911
)

// nonUniform is NURand(a, low, high).
func (g random) nonUniform(a, c, low, high int) int {
	return ((g.in(0, a)|g.in(low, high))+c)%(high-low+1) + low
}

func (g random) customer() int { return g.nonUniform(1023, constCustomer, 1, g.p.Customers) }
func (g random) item() int     { return g.nonUniform(8191, constItem, 1, g.p.Items) }

// lastName is one of those that customers have: with fewer than a thousand of them, not all names are there.
func (g random) lastName() string {
	return lastName(g.nonUniform(255, constName, 0, min(999, g.p.Customers-1)))
}

var syllables = [...]string{"BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING"}

// lastName makes a name of a number below 1000.
func lastName(n int) string { return syllables[n/100] + syllables[n/10%10] + syllables[n%10] }

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	digits  = "0123456789"
)

func (g random) from(set string, low, high int) string {
	var b strings.Builder
	for range g.in(low, high) {
		b.WriteByte(set[g.IntN(len(set))])
	}
	return b.String()
}

// text is an a-string, number an n-string.
func (g random) text(low, high int) string { return g.from(letters, low, high) }
func (g random) number(n int) string       { return g.from(digits, n, n) }
func (g random) zip() string               { return g.number(4) + "11111" }

// data is a text of 26 to 50 letters, one in ten with ORIGINAL in it.
func (g random) data() string {
	s := g.text(26, 50)
	if g.IntN(10) == 0 {
		at := g.in(0, len(s)-8)
		s = s[:at] + "ORIGINAL" + s[at+8:]
	}
	return s
}
