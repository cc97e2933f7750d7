package ycsb_test

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
	"whale/workload/whisper/ycsb"
)

func mustNew(t testing.TB, p ycsb.Params) *ycsb.YCSB {
	t.Helper()
	w, err := ycsb.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCrash(t *testing.T) {
	crashtest.Run(t, mustNew(t, ycsb.Params{Rows: 4}), crashtest.Options{Runs: 3, Transactions: 8})
}

func prepared(t testing.TB, w workload.Workload, o mirror.Options) (workload.Program, *pmem.HeapMemory) {
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
	return p, m
}

// TestThreads: threads at once, most of whom want the same rows, leave whole rows.
func TestThreads(t *testing.T) {
	p, _ := prepared(t, mustNew(t, ycsb.Params{Rows: 100, Threads: 4}), mirror.Options{Threads: 4})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if err := p.Run(workload.NewThread(i, 1, workload.Real{}), 500); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// TestFindsWhatIsWrong: a byte that is changed anywhere in the rows is found.
func TestFindsWhatIsWrong(t *testing.T) {
	p, m := prepared(t, mustNew(t, ycsb.Params{Rows: 5}), mirror.Options{})
	if err := p.Run(workload.NewThread(0, 1, app.Still{}), 20); err != nil {
		t.Fatal(err)
	}
	content := p.(app.Program).Content()
	found, unseen := 0, 0
	for off := mirror.HeadSize; off < len(m.Bytes()); off += 8 {
		if m.Bytes()[off] == 0 {
			continue
		}
		m.Bytes()[off] ^= 1
		if p.Check() != nil {
			found++
		} else if p.(app.Program).Content() != content {
			unseen++
		}
		m.Bytes()[off] ^= 1
	}
	if found < 5*10*13 || unseen > 0 {
		t.Errorf("%d changed words were found, %d changed a row unseen", found, unseen)
	}
}

// TestShape: what writes has two epochs for each block that is made or freed and each field that is changed, as the counted log has; most are of one
// line, and lines are written again and again.
func TestShape(t *testing.T) {
	rec := epochs.NewRecorder()
	p, _ := prepared(t, mustNew(t, ycsb.Params{Rows: 1000}), mirror.Options{Observer: rec})
	rec.Reset()
	if err := p.Run(workload.NewThread(0, 1, app.Still{}), 1000); err != nil {
		t.Fatal(err)
	}
	s := rec.Summary()
	if t.Logf("%+v", s); s.P50 < 45 || s.P50 > 65 || s.OneLine < 0.7 || s.Rewrites < 2 || s.Transactions < 750 || s.Transactions > 850 {
		t.Errorf("not the shape of the original")
	}
}

func TestParams(t *testing.T) {
	for _, p := range []ycsb.Params{{Rows: -1}, {Writes: 101}, {Skew: 100}, {Threads: 17}} {
		if _, err := ycsb.New(p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
