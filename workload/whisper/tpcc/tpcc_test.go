package tpcc_test

import (
	"context"
	"sync"
	"testing"

	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/epochs"
	"whale/workload/whisper/app"
	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/tpcc"
)

// small is a database of a few rows.
var small = tpcc.Params{Items: 10, Customers: 3, Spare: 64}

func mustNew(t testing.TB, p tpcc.Params) *tpcc.TPCC {
	t.Helper()
	w, err := tpcc.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func prepared(t testing.TB, w workload.Workload, o mirror.Options) workload.Program {
	t.Helper()
	m := pmem.HeapOf(mirror.HeadSize+w.Size()&^63, pmem.ADR)
	r, err := mirror.Open(context.Background(), m, nil, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Prepare(r); err != nil {
		t.Fatal(err)
	}
	p, err := w.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCrash(t *testing.T) {
	crashtest.Run(t, mustNew(t, small), crashtest.Options{Runs: 1, Transactions: 14})
}

// TestTerminals: threads of two warehouses at once, who pay and order in each other's, keep the consistency conditions.
func TestTerminals(t *testing.T) {
	w := mustNew(t, tpcc.Params{Warehouses: 2, Items: 100, Customers: 30, Threads: 4, Spare: 4 << 10})
	p := prepared(t, w, mirror.Options{Threads: 4})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if err := p.Run(workload.NewThread(i, 1, workload.Real{}), 150); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// TestFindsWhatIsWrong: numbers that transactions change are changed in the rows, one after the other, and found.
func TestFindsWhatIsWrong(t *testing.T) {
	p := prepared(t, mustNew(t, small), mirror.Options{})
	if err := p.Run(workload.NewThread(0, 1, app.Still{}), 30); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if missed := tpcc.Spoil(t, p); len(missed) > 0 {
		t.Errorf("not found: %v", missed)
	}
}

// TestShape: what the mix looks like.
func TestShape(t *testing.T) {
	rec := epochs.NewRecorder()
	p := prepared(t, mustNew(t, tpcc.Params{Items: 1000, Customers: 100}), mirror.Options{Observer: rec})
	rec.Reset()
	if err := p.Run(workload.NewThread(0, 1, app.Still{}), 1000); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	s := rec.Summary()
	if t.Logf("%+v", s); s.Transactions < 850 || s.Transactions > 960 || s.P95 < 90 || s.Rewrites < 1.8 {
		t.Errorf("not the shape of the original")
	}
}

func TestParams(t *testing.T) {
	for _, p := range []tpcc.Params{{Warehouses: 256}, {Items: 9}, {Customers: 2}, {Threads: 17}, {Spare: -1}} {
		if _, err := tpcc.New(p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
