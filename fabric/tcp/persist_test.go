package tcp

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/pmem"
)

// line is one end of a connection to memory with a crash model, and its own memory.
type line struct {
	conn          fabric.Conn
	local         *pmem.HeapMemory
	localKey, key fabric.Key
	there         *pmem.Simulated
}

const lineSize = 16 << 10

func newLine(t *testing.T, seed uint64) *line {
	t.Helper()
	here, there := open(t, Options{}), open(t, Options{Domain: pmem.ADR})
	l := &line{local: pmem.Heap(lineSize), there: pmem.Simulate(lineSize, pmem.ADR, seed)}
	l.localKey = register(t, here, l.local, fabric.LocalOnly)
	l.key = register(t, there, l.there, allRights)
	conn, _, _, err := fabrictest.DialAccept(here, there, nil, func([]byte) ([]byte, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	l.conn = conn
	return l
}

// do posts operations, of which the last one reports, and waits for it.
func (l *line) do(t *testing.T, ops ...fabric.Op) {
	t.Helper()
	for i := range ops {
		ops[i].Remote.Key, ops[i].Local.Key = l.key, l.localKey
	}
	ops[len(ops)-1].Flags |= fabric.Signaled
	if l.conn.Post(ops) != len(ops) {
		t.Fatal("the queue is full")
	}
	var done [1]fabric.Completion
	for l.conn.Poll(done[:]) == 0 {
	}
	if done[0].Err != nil {
		t.Fatal(done[0].Err)
	}
}

// TestPersistence: when a primitive says that something is durable, a loss of power at the target leaves it.
func TestPersistence(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags fabric.Flags
		last  fabric.Op
		weak  bool // a loss of power may lose it: shows that the test would see that
	}{
		{name: "flush of a range", last: fabric.Op{Kind: fabric.Flush, A: fabric.Durable, Len: lineSize / 2}},
		{name: "flush of a region", last: fabric.Op{Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region}},
		{name: "written through, durable fence", flags: fabric.WriteThrough, last: fabric.Op{Kind: fabric.Fence, A: fabric.Durable}},
		{name: "non-temporal, read", flags: fabric.NonTemporal, last: fabric.Op{Kind: fabric.Read, Len: 8, Local: fabric.Span{Off: lineSize - 8}}},
		{name: "non-temporal, durable fence", flags: fabric.NonTemporal, last: fabric.Op{Kind: fabric.Fence, A: fabric.Durable}},
		{name: "visible flush", last: fabric.Op{Kind: fabric.Flush, A: fabric.Visible, B: fabric.Region}, weak: true},
		{name: "plain, durable fence", last: fabric.Op{Kind: fabric.Fence, A: fabric.Durable}, weak: true},
		{name: "written through, visible fence", flags: fabric.WriteThrough, last: fabric.Op{Kind: fabric.Fence}, weak: true},
		{name: "plain, read", last: fabric.Op{Kind: fabric.Read, Len: 8, Local: fabric.Span{Off: lineSize - 8}}, weak: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLine(t, 1)
			lost := 0
			for round := range uint64(100) {
				off, n := round*37%4096, 1+round*91%3000
				for i := range l.local.Bytes()[:n] {
					l.local.Bytes()[i] = byte(round + uint64(i))
				}
				l.do(t,
					fabric.Op{Kind: fabric.Write, Flags: c.flags, Remote: fabric.Addr{Off: off}, Len: n},
					fabric.Op{Kind: fabric.Write8, Flags: c.flags, Remote: fabric.Addr{Off: 7168}, A: round + 1},
					c.last)
				left := l.there.CrashDurable()
				if left.Load64(7168) != round+1 || !bytes.Equal(left.Bytes()[off:off+n], l.local.Bytes()[:n]) {
					lost++
				}
			}
			if lost > 0 != c.weak {
				t.Errorf("a loss of power lost %d of 100", lost)
			}
		})
	}
}

// TestOrder: at any moment, what a loss of power leaves of a stream of words is a prefix of it.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  fabric.Flags
		fenced bool
	}{
		{name: "non-temporal", flags: fabric.NonTemporal},
		{name: "written through, with fences", flags: fabric.WriteThrough, fenced: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			const words = 100
			broken := false
			for seed := uint64(1); seed <= 10 && !broken; seed++ {
				l, rng := newLine(t, seed), rand.New(rand.NewPCG(seed, 2))
				done := make(chan struct{})
				go func() {
					defer close(done)
					var ops []fabric.Op
					for i := range uint64(words) {
						ops = append(ops, fabric.Op{Kind: fabric.Write8, Flags: c.flags, Remote: fabric.Addr{Off: 64 * (i * 37 % words)}, A: i + 1})
						if c.fenced {
							ops = append(ops, fabric.Op{Kind: fabric.Fence, A: fabric.Durable})
						}
					}
					l.do(t, append(ops, fabric.Op{Kind: fabric.Fence, A: fabric.Durable})...)
				}()
				for over := false; !over; {
					select {
					case <-done:
						over = true
					default:
					}
					left := l.there.Crash(rng)
					gap := false
					for i := range uint64(words) {
						there := left.Load64(64*(i*37%words)) == i+1
						broken = broken || gap && there
						gap = gap || !there
					}
				}
			}
			if broken {
				t.Error("a loss of power left a later word without an earlier one")
			}
		})
	}
}
