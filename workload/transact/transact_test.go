package transact_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/transact"
)

func mustNew(t testing.TB, p transact.Params) *transact.Transact {
	t.Helper()
	w, err := transact.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func open(t testing.TB, m pmem.Memory, o mirror.Options) *mirror.Region {
	t.Helper()
	r, err := mirror.Open(context.Background(), m, nil, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// watcher calls f at each step of a transaction.
type watcher struct{ f func() }

func (w watcher) Write(int, uint64, uint64) { w.f() }
func (w watcher) Barrier(int)               { w.f() }
func (w watcher) Commit(int)                { w.f() }

// TestCrash takes what a loss of power leaves at every step of some transactions. Each opens, is repaired, and goes on.
func TestCrash(t *testing.T) {
	for _, params := range []transact.Params{
		{Epochs: 3, Writes: 2, Bytes: 64, Span: 640},
		{Epochs: 1, Writes: 5, Bytes: 24, Span: 320},
		{Epochs: 4, Writes: 1, Bytes: 200, Span: 1024, Threads: 2},
	} {
		w := mustNew(t, params)
		m := pmem.Simulate(mirror.HeadSize+w.Size(), pmem.ADR, 3)
		if err := w.Prepare(open(t, m, mirror.Options{})); err != nil {
			t.Fatal(err)
		}
		m = m.CrashDurable()
		rng := rand.New(rand.NewPCG(5, 5))
		states := 0
		look := func() {
			for range 6 {
				r := open(t, m.Crash(rng), mirror.Options{})
				p, err := w.Open(r)
				if err != nil {
					t.Fatalf("%+v: %v", params, err)
				}
				if err := p.Check(); err != nil {
					t.Fatalf("%+v, repaired: %v", params, err)
				}
				if err := p.Run(workload.NewThread(0, 1, workload.Real{}), 2); err != nil {
					t.Fatal(err)
				}
				if err := p.Check(); err != nil {
					t.Fatalf("%+v, repaired and gone on: %v", params, err)
				}
				states++
			}
		}
		p, err := w.Open(open(t, m, mirror.Options{Observer: watcher{look}}))
		if err != nil {
			t.Fatal(err)
		}
		for i := range w.Threads() {
			if err := p.Run(workload.NewThread(i, 1, workload.Real{}), 6); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Check(); err != nil || states < 200 {
			t.Errorf("%+v: after %d crashes: %v", params, states, err)
		}
	}
}

// TestFindsWhatIsWrong: a byte changed, a write undone, an epoch ahead of another: each is found.
func TestFindsWhatIsWrong(t *testing.T) {
	w := mustNew(t, transact.Params{Epochs: 4, Writes: 2, Bytes: 64, Span: 64 * 16})
	run := func(n int) (*pmem.HeapMemory, workload.Program) {
		m := pmem.HeapOf(mirror.HeadSize+w.Size(), pmem.ADR)
		r := open(t, m, mirror.Options{})
		if err := w.Prepare(r); err != nil {
			t.Fatal(err)
		}
		p, err := w.Open(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(workload.NewThread(0, 1, workload.Real{}), n); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		return m, p
	}
	for off := uint64(mirror.HeadSize + 64); off < mirror.HeadSize+w.Size(); off += 8 {
		m, p := run(20)
		m.Bytes()[off] ^= 1
		if p.Check() == nil {
			t.Errorf("byte %d of the region was changed, and nothing was found", off-mirror.HeadSize)
		}
	}
	older, _ := run(19)
	newer, p := run(20)
	found := 0
	for off := uint64(mirror.HeadSize + 64); off < mirror.HeadSize+w.Size(); off += 64 {
		line := string(newer.Bytes()[off : off+64])
		if old := string(older.Bytes()[off : off+64]); old != line {
			copy(newer.Bytes()[off:], old)
			if p.Check() == nil {
				t.Errorf("the write to %d was undone, and nothing was found", off-mirror.HeadSize)
			}
			copy(newer.Bytes()[off:], line)
			found++
		}
	}
	if found < 4 {
		t.Errorf("only %d lines differ by a transaction of 8", found)
	}
}

func TestParams(t *testing.T) {
	for _, p := range []transact.Params{
		{Epochs: -1}, {Writes: 1 << 30}, {Bytes: 12}, {Bytes: -8}, {Threads: 5000}, {Span: 32}, {Compute: -time.Second}, {Reads: -1},
	} {
		if _, err := transact.New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	small, other := mustNew(t, transact.Params{}), mustNew(t, transact.Params{Epochs: 8})
	r := open(t, pmem.HeapOf(mirror.HeadSize+small.Size(), pmem.ADR), mirror.Options{})
	if _, err := small.Open(r); err == nil || !strings.Contains(err.Error(), "not at all") {
		t.Errorf("a region that was not prepared: %v", err)
	}
	if err := small.Prepare(r); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(r); err == nil || !strings.Contains(err.Error(), "other parameters") {
		t.Errorf("a region of other parameters: %v", err)
	}
	tiny := open(t, pmem.HeapOf(mirror.HeadSize+4096, pmem.ADR), mirror.Options{})
	if small.Prepare(tiny) == nil {
		t.Error("a region that is too small is prepared")
	}
}
