package mirroreval

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"whale/fabric"
	"whale/mirror"
	"whale/pmem"
	"whale/timing"
	"whale/workload"
	"whale/workload/transact"
)

// commits counts what has committed, by thread.
type commits struct{ n [4]uint64 }

func (c *commits) Write(int, uint64, uint64) {}
func (c *commits) Barrier(int)               {}
func (c *commits) Commit(thread int)         { c.n[thread]++ }

// spoiled is an endpoint whose connections change what is posted.
type spoiled struct {
	fabric.Endpoint
	spoil func(*fabric.Op)
}

func (s spoiled) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	c, answer, err := s.Endpoint.Dial(ctx, addr, hello)
	return spoiledConn{c, s.spoil}, answer, err
}

type spoiledConn struct {
	fabric.Conn
	spoil func(*fabric.Op)
}

func (c spoiledConn) Post(ops []fabric.Op) int {
	ops = slices.Clone(ops)
	for i := range ops {
		c.spoil(&ops[i])
	}
	return c.Conn.Post(ops)
}

// crashes runs Transact under a strategy and takes, at random moments of virtual time, what a loss of power leaves on either
// side: each copy must hold what the order of epochs allows, and every transaction that has committed.
func crashes(t *testing.T, strategy mirror.Strategy, seed uint64, spoil func(*fabric.Op)) (states int, err error) {
	p := timing.Default()
	p.Tail.P99 = 1.6
	m, err := timing.New(p, seed)
	if err != nil {
		t.Fatal(err)
	}
	w, err := transact.New(transact.Params{Epochs: 3, Writes: 2, Bytes: 64, Span: 640, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	size := mirror.HeadSize + w.Size()
	sides := [2]*pmem.Simulated{pmem.Simulate(size, pmem.ADR, seed), pmem.Simulate(size, pmem.ADR, seed+1000)}
	r, err := mirror.Open(context.Background(), sides[0], nil, nil, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prepare(r); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	a, b := m.Node("primary"), m.Node("mirror")
	x, err := mirror.NewExport(b.Endpoint(), b.Memory(sides[1]))
	if err != nil {
		t.Fatal(err)
	}
	b.Listen(x.Answer)
	var done commits
	r, err = mirror.Open(context.Background(), a.Memory(sides[0]), spoiled{a.Endpoint(), spoil}, []string{b.Endpoint().Addr()},
		mirror.Options{Strategy: strategy, Threads: w.Threads(), Idle: m.Idle, Observer: &done})
	if err != nil {
		t.Fatal(err)
	}
	program, err := w.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	done = commits{}
	run := func(i int) func() {
		return func() {
			if e := program.Run(workload.NewThread(i, seed, m), 8); e != nil {
				t.Error(e)
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	m.Run(run(0), run(1), func() {
		for range 60 {
			m.Compute(time.Duration(rng.IntN(900)))
			a.Memory(sides[0]).Load64(0) // everything up to now has happened
			committed := done.n
			for k, side := range sides {
				if e := survives(w, side.Crash(rng), committed); e != nil && err == nil {
					err = fmt.Errorf("%v, seed %d, the copy of the %s after %v: %w", strategy, seed, [2]string{"primary", "mirror"}[k], m.Now(), e)
				}
				states++
			}
		}
	})
	return states, err
}

func survives(w *transact.Transact, left *pmem.Simulated, committed [4]uint64) error {
	r, err := mirror.Open(context.Background(), left, nil, nil, mirror.Options{Threads: w.Threads()})
	if err != nil {
		return err
	}
	p, err := w.Open(r)
	if err != nil {
		return err
	}
	for i := range w.Threads() {
		if got := p.(interface{ Transactions(int) uint64 }).Transactions(i); got < committed[i] {
			return fmt.Errorf("%d transactions of thread %d have committed, %d are there", committed[i], i, got)
		}
	}
	return p.Check()
}

// TestCrash: the strategies keep their promise at every moment of modelled time.
func TestCrash(t *testing.T) {
	for _, s := range Mirrored {
		total := 0
		for seed := range uint64(8) {
			n, err := crashes(t, s, seed, func(*fabric.Op) {})
			if err != nil {
				t.Error(err)
			}
			total += n
		}
		t.Logf("%v: %d states", s, total)
	}
}

// TestCrashFindsFaults: without one of its primitives, no strategy keeps it, and that is seen.
func TestCrashFindsFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		s     mirror.Strategy
		spoil func(*fabric.Op)
	}{
		{"a flush that makes visible", mirror.RemoteCommit, func(o *fabric.Op) {
			if o.Kind == fabric.Flush {
				o.A = fabric.Visible
			}
		}},
		{"no fence between epochs", mirror.OrderedBuffering, func(o *fabric.Op) {
			if o.Kind == fabric.Fence && o.Flags&fabric.Signaled == 0 {
				o.A = fabric.Visible
			}
		}},
		{"no durability at the end", mirror.OrderedBuffering, func(o *fabric.Op) {
			if o.Kind == fabric.Fence && o.Flags&fabric.Signaled != 0 {
				o.A = fabric.Visible
			}
		}},
		{"writes into the cache", mirror.DDIODisabled, func(o *fabric.Op) { o.Flags &^= fabric.NonTemporal }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(200) {
				if _, err := crashes(t, c.s, seed, c.spoil); err != nil {
					return
				}
			}
			t.Error("200 runs did not find it")
		})
	}
}
