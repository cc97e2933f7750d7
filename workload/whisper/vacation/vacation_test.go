package vacation_test

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
	"whale/workload/whisper/vacation"
)

func mustNew(t testing.TB, p vacation.Params) *vacation.Vacation {
	t.Helper()
	w, err := vacation.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestCrash(t *testing.T) {
	crashtest.Run(t, mustNew(t, vacation.Params{Relations: 8, Clients: 2, User: 60, Range: 100}), crashtest.Options{Runs: 4, Transactions: 30})
}

// prepared is a region with the workload's data, and its memory.
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

// TestClients: four clients at once on the real machine, who change few relations, leave tables that agree.
func TestClients(t *testing.T) {
	p, _ := prepared(t, mustNew(t, vacation.Params{Relations: 50, User: 70}), mirror.Options{Threads: 4})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if err := p.Run(workload.NewThread(i, 1, workload.Real{}), 1000); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// TestFindsWhatIsWrong: a number that is changed anywhere in the tables is found.
func TestFindsWhatIsWrong(t *testing.T) {
	w := mustNew(t, vacation.Params{Relations: 6, Clients: 1})
	p, m := prepared(t, w, mirror.Options{})
	if err := p.Run(workload.NewThread(0, 1, app.Still{}), 40); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	content := p.(app.Program).Content()
	found, changed := 0, 0
	for off := mirror.HeadSize; off < len(m.Bytes()); off += 8 {
		if m.Bytes()[off] == 0 {
			continue
		}
		m.Bytes()[off] ^= 3
		if p.Check() != nil {
			found++
		} else if p.(app.Program).Content() != content {
			changed++ // a price, which nothing else tells
		}
		m.Bytes()[off] ^= 3
	}
	if found < 100 || changed > 60 {
		t.Errorf("%d changed words were found, and %d prices changed unseen", found, changed)
	}
}

// TestShape: transactions of the redo log have four epochs, whatever they do.
func TestShape(t *testing.T) {
	rec := epochs.NewRecorder()
	p, _ := prepared(t, mustNew(t, vacation.Params{Relations: 2000, Clients: 1}), mirror.Options{Observer: rec})
	rec.Reset()
	if err := p.Run(workload.NewThread(0, 1, app.Still{}), 2000); err != nil {
		t.Fatal(err)
	}
	if s := rec.Summary(); s.P50 != 4 {
		t.Errorf("%+v", s)
	} else {
		t.Logf("%+v", s)
	}
}

func TestParams(t *testing.T) {
	for _, p := range []vacation.Params{{Relations: -1}, {Clients: 17}, {Range: 101}, {User: 1000}, {Queries: 65}} {
		if _, err := vacation.New(p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
