package whisper_test

import (
	"strings"
	"testing"
	"time"

	"whale/mirror"
	"whale/pmem"
	"whale/workload"
	"whale/workload/whisper"
)

const transactions = 100 // of each thread

// TestApplications runs each of them with its default parameters, checks its data, and prints what its transactions look like beside the
// originals'. Equal seeds give equal figures, others give others.
func TestApplications(t *testing.T) {
	var rows []whisper.Row
	for _, a := range whisper.Applications {
		s, err := whisper.Count(a.New(), transactions, 1)
		if err != nil {
			t.Fatal(err)
		}
		again, err := whisper.Count(a.New(), transactions, 1)
		if err != nil {
			t.Fatal(err)
		}
		if s != again {
			t.Errorf("%s: equal seeds give %+v and %+v", a.New().Name(), s, again)
		}
		if s.Transactions < transactions/2 { // some may only read
			t.Errorf("%s: %d of %d transactions wrote", a.New().Name(), s.Transactions, transactions)
		}
		rows = append(rows, whisper.Row{Application: a, Counted: s})
	}
	var b strings.Builder
	if err := whisper.WriteTable(&b, rows); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
}

func TestFind(t *testing.T) {
	names := map[string]bool{}
	for _, w := range whisper.Workloads() {
		if names[w.Name()] || w.Threads() < 1 {
			t.Errorf("%s: twice, or with %d threads", w.Name(), w.Threads())
		}
		names[w.Name()] = true
		if a, err := whisper.Find(strings.ToUpper(w.Name())); err != nil || a.New().Name() != w.Name() {
			t.Errorf("%s: %v", w.Name(), err)
		}
	}
	if _, err := whisper.Find("nothing"); err == nil || !strings.Contains(err.Error(), "hashmap") {
		t.Errorf("an application that is not there: %v", err)
	}
}

// counting is a machine that adds up what it is told to compute.
type counting struct {
	workload.Real
	total *time.Duration
}

func (c counting) Compute(d time.Duration) { *c.total += d }

// TestThink: every application computes besides its transactions as long as it is told.
func TestThink(t *testing.T) {
	const n, think = 5, time.Millisecond
	for _, a := range whisper.Applications {
		w, err := a.With(think)
		if err != nil {
			t.Fatal(err)
		}
		m := pmem.HeapOf((mirror.HeadSize+w.Size()+63)&^63, pmem.ADR)
		r, err := mirror.Open(t.Context(), m, nil, nil, mirror.Options{Threads: w.Threads()})
		if err == nil {
			err = w.Prepare(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.Open(r)
		if err != nil {
			t.Fatal(err)
		}
		var total time.Duration
		if err := p.Run(workload.NewThread(0, 1, counting{total: &total}), n); err != nil {
			t.Fatal(err)
		}
		if total < n*think || total%think != 0 {
			t.Errorf("%s computed for %v in %d transactions, want %v for each of them or of their requests", w.Name(), total, n, think)
		}
		if w, err := a.With(-1); err == nil {
			t.Errorf("%s computes for less than no time", w.Name())
		}
	}
}
