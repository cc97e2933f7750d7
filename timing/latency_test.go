package timing_test

import (
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
	"whale/timing"
)

// steady are the parameters p, or the default ones, without variation.
func steady(change ...func(*timing.Params)) timing.Params {
	p := timing.Default()
	p.Tail.P99, p.Tail.Stall = 1, 0
	for _, f := range change {
		f(&p)
	}
	return p
}

// lab is a primary P and a mirror M with a connection, and memory registered at both.
type lab struct {
	testing.TB
	*timing.Model
	p, m          *timing.Node
	conn, back    fabric.Conn
	local, remote *timing.PM
	lkey, rkey    fabric.Key
}

const labSize = 1 << 20

func newLab(t testing.TB, p timing.Params) *lab {
	t.Helper()
	model, err := timing.New(p, 7)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{TB: t, Model: model, p: model.Node("P"), m: model.Node("M")}
	l.conn, l.back = model.Connect(l.p, l.m)
	l.local, l.remote = l.p.Memory(pmem.Heap(labSize)), l.m.Memory(pmem.Heap(labSize))
	rights := fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush
	if l.lkey, err = l.p.Endpoint().Register(l.local, 0, labSize, rights); err != nil {
		t.Fatal(err)
	}
	if l.rkey, err = l.m.Endpoint().Register(l.remote, 0, labSize, rights); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) write(off, n uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write, Flags: f, Local: fabric.Span{Key: l.lkey, Off: off}, Remote: fabric.Addr{Key: l.rkey, Off: off}, Len: n}
}

func (l *lab) read(off, n uint64) fabric.Op {
	return fabric.Op{Kind: fabric.Read, Flags: fabric.Signaled, Local: fabric.Span{Key: l.lkey, Off: off}, Remote: fabric.Addr{Key: l.rkey, Off: off}, Len: n}
}

func (l *lab) flush(placement uint64) fabric.Op {
	return fabric.Op{Kind: fabric.Flush, Flags: fabric.Signaled, Remote: fabric.Addr{Key: l.rkey}, A: placement, B: fabric.Region}
}

// wait polls for n completions of c.
func (l *lab) wait(c fabric.Conn, n int) {
	l.Helper()
	space := make([]fabric.Completion, 8)
	for polls := 0; n > 0; polls++ {
		got := c.Poll(space)
		for _, done := range space[:got] {
			if done.Err != nil {
				l.Fatalf("completion %+v", done)
			}
		}
		if n -= got; polls > 100000 {
			l.Fatalf("%d completions never came", n)
		}
	}
}

// takes is the median time of what f does, after a warm-up.
func (l *lab) takes(f func()) time.Duration {
	f()
	l.Settle()
	start := l.Now()
	f()
	return l.Now() - start
}

func (l *lab) post(ops ...fabric.Op) {
	l.Helper()
	if n := l.conn.Post(ops); n != len(ops) {
		l.Fatalf("Post took %d of %d", n, len(ops))
	}
}

// TestCheckValues: what the parameters say about steps adds up to what is known about whole operations. No parameter is for
// that alone.
func TestCheckValues(t *testing.T) {
	between := func(name string, got, low, high time.Duration) {
		t.Helper()
		t.Logf("%-50s %v", name, got)
		if got < low || got > high {
			t.Errorf("%s: %v, want %v to %v", name, got, low, high)
		}
	}
	us := func(f float64) time.Duration { return time.Duration(f * 1000) }
	l := newLab(t, steady())
	between("64 B WRITE until its completion", l.takes(func() {
		l.post(l.write(0, 64, fabric.Signaled))
		l.wait(l.conn, 1)
	}), us(1.2), us(2.0))
	between("64 B READ", l.takes(func() {
		l.post(l.read(0, 64))
		l.wait(l.conn, 1)
	}), us(1.6), us(2.3))
	between("WRITE and READ flush, one doorbell", l.takes(func() {
		l.post(l.write(0, 64, 0), l.read(0, 8))
		l.wait(l.conn, 1)
	}), us(2.0), us(2.8))
	between("compare-and-swap", l.takes(func() {
		l.post(fabric.Op{Kind: fabric.CompareSwap, Flags: fabric.Signaled, Remote: fabric.Addr{Key: l.rkey}})
		l.wait(l.conn, 1)
	}), us(1.7), us(2.5))

	recv := func(c fabric.Conn, key fabric.Key) {
		if c.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: key, Off: 4096}, Len: 64}}) != 1 {
			t.Fatal("no room for a receive")
		}
	}
	send := func(key fabric.Key) fabric.Op {
		return fabric.Op{Kind: fabric.Send, Local: fabric.Span{Key: key, Off: 8192}, Len: 16}
	}
	const rounds = 3
	var message time.Duration
	l.Run(func() { // the mirror's CPU flushes what a message tells it to
		for range rounds {
			recv(l.back, l.rkey)
			l.wait(l.back, 1)
			l.remote.Persist(0, 64)
			l.remote.Fence()
			if l.back.Post([]fabric.Op{send(l.rkey)}) != 1 {
				t.Error("the answer was not taken")
			}
		}
	}, func() {
		for range rounds {
			recv(l.conn, l.lkey)
			l.Compute(time.Microsecond) // the other side has posted its receive
			start := l.Now()
			l.post(l.write(0, 64, 0), send(l.lkey))
			l.wait(l.conn, 1)
			message = l.Now() - start
		}
	})
	between("WRITE, then a message to the CPU, which flushes", message, us(2.6), us(5))

	one := func(way func()) time.Duration { return l.takes(way) }
	between("clwb and sfence, one line", one(func() { l.local.Persist(0, 64); l.local.Fence() }), 60, 150)
	between("non-temporal store and sfence, one line", one(func() { l.local.CopyNT(0, make([]byte, 64)); l.local.Fence() }), 85, 120)
}
