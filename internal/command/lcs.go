package command

// maxLCS bounds the table that LCS fills, and with it the time that it takes: 16 million cells are a tenth of a second.
const maxLCS = 16 << 20

// lcs finds the longest common subsequence of two values by the usual table: cell (i, j) is the length for the first i
// bytes of one and the first j of the other.
func lcs(c *Ctx) {
	var length, index, withLength bool
	minimum := int64(0)
	for i := 3; i < len(c.Args); i++ {
		switch {
		case c.is(i, "idx"):
			index = true
		case c.is(i, "len"):
			length = true
		case c.is(i, "withmatchlen"):
			withLength = true
		case c.is(i, "minmatchlen") && i+1 < len(c.Args):
			var ok bool
			if minimum, ok = c.integer(i + 1); !ok {
				return
			}
			i++
		default:
			c.W.Error(errSyntax)
			return
		}
	}
	if length && index {
		c.W.Error("ERR If you want both the length and indexes, please just use IDX.")
		return
	}
	a, _ := c.Tx.Get(c.Args[1])
	b, _ := c.Tx.Get(c.Args[2])
	if (len(a)+1)*(len(b)+1) > maxLCS {
		c.W.Error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
		return
	}
	table := newLCS(a, b)
	switch {
	case length:
		c.W.Int(int64(table.at(len(a), len(b))))
	case index:
		matches := table.matches(minimum)
		c.W.Map(2)
		c.W.BulkString("matches")
		c.W.Array(len(matches))
		for _, m := range matches {
			if withLength {
				c.W.Array(3)
			} else {
				c.W.Array(2)
			}
			for _, start := range [...]int{m.a, m.b} {
				c.W.Array(2)
				c.W.Int(int64(start))
				c.W.Int(int64(start + m.n - 1))
			}
			if withLength {
				c.W.Int(int64(m.n))
			}
		}
		c.W.BulkString("len")
		c.W.Int(int64(table.at(len(a), len(b))))
	default:
		c.W.Bulk(table.common())
	}
}

type lcsTable struct {
	a, b  []byte
	cells []uint32
}

// lcsMatch is a run of equal bytes: n of them, from a in the one and from b in the other.
type lcsMatch struct{ a, b, n int }

func newLCS(a, b []byte) *lcsTable {
	t := &lcsTable{a: a, b: b, cells: make([]uint32, (len(a)+1)*(len(b)+1))}
	width := len(b) + 1
	for i := range a {
		above, row := t.cells[i*width:(i+1)*width], t.cells[(i+1)*width:(i+2)*width]
		for j := range b {
			if a[i] == b[j] {
				row[j+1] = above[j] + 1
			} else {
				row[j+1] = max(above[j+1], row[j])
			}
		}
	}
	return t
}

func (t *lcsTable) at(i, j int) uint32 { return t.cells[i*(len(t.b)+1)+j] }

// walk goes back from the end of both and calls pair for each pair of bytes in the subsequence.
func (t *lcsTable) walk(pair func(i, j int)) {
	for i, j := len(t.a), len(t.b); i > 0 && j > 0; {
		switch {
		case t.a[i-1] == t.b[j-1]:
			pair(i-1, j-1)
			i--
			j--
		case t.at(i-1, j) > t.at(i, j-1):
			i--
		default:
			j--
		}
	}
}

func (t *lcsTable) common() []byte {
	n := t.at(len(t.a), len(t.b))
	common := make([]byte, n)
	t.walk(func(i, _ int) {
		n--
		common[n] = t.a[i]
	})
	return common
}

// matches are the runs of at least minimum bytes, the last first.
func (t *lcsTable) matches(minimum int64) (runs []lcsMatch) {
	run := lcsMatch{}
	end := func() {
		if run.n > 0 && int64(run.n) >= minimum {
			runs = append(runs, run)
		}
	}
	t.walk(func(i, j int) {
		if run.n > 0 && run.a == i+1 && run.b == j+1 {
			run = lcsMatch{i, j, run.n + 1}
			return
		}
		end()
		run = lcsMatch{i, j, 1}
	})
	end()
	return runs
}
