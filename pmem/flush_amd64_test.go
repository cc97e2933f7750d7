package pmem

import (
	"bytes"
	"testing"
)

// Every flush that the processor has executes on every range and leaves the bytes alone, and copies with each are
// copies.
func TestEveryFlushInstruction(t *testing.T) {
	has := flushers()
	if len(has) == 0 {
		t.Fatal("every amd64 processor has CLFLUSH")
	}
	for _, by := range has {
		t.Run(by.String(), func(t *testing.T) {
			m := mapTemp(t, 8192, Options{Domain: ADR})
			m.flusher = by
			want := make([]byte, 8192)
			for i := range want {
				want[i] = byte(i * 7)
			}
			m.CopyNT(0, want)
			for off := uint64(0); off < 200; off++ {
				for n := uint64(0); n < 200; n += 9 {
					m.Persist(off, n)
				}
				m.CopyNT(off, want[off:off+300])
				m.Fence()
			}
			m.Persist(0, 8192) // up to the last line of the mapping, not beyond
			if !bytes.Equal(m.Bytes(), want) {
				t.Error("bytes changed")
			}
		})
	}
}

// ADR takes the best flush; the others need none.
func TestFlusherOfADomain(t *testing.T) {
	for d := FileShared; d <= EADR; d++ {
		by, err := flusherFor(d)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]flusher{true: flushers()[0], false: noFlush}[d == ADR]; by != want {
			t.Errorf("%v: %v, expected %v", d, by, want)
		}
	}
}

// A flush that starts in the last line of a mapping must not touch the page behind it.
func TestFlushStaysInside(t *testing.T) {
	m := mapTemp(t, page(2), Options{Domain: ADR})
	truncate(t, m, int64(page(1))) // what is behind faults
	for _, by := range flushers() {
		m.flusher = by
		if err := Guard(func() {
			m.Persist(page(1)-1, 1)
			m.Persist(page(1)-64, 64)
			m.CopyNT(page(1)-200, make([]byte, 200))
			m.CopyNT(page(1)-192, make([]byte, 192))
		}); err != nil {
			t.Errorf("%v: %v", by, err)
		}
		if Guard(func() { m.Persist(page(1)-1, 2) }) == nil {
			t.Errorf("%v: a flush behind the end is not noticed: this test shows nothing", by)
		}
	}
}
