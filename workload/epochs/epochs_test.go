package epochs_test

import (
	"testing"

	"whale/workload/epochs"
)

// TestSummary counts two transactions that were counted by hand, told by two threads at once.
func TestSummary(t *testing.T) {
	r := epochs.NewRecorder()
	if s := r.Summary(); s != (epochs.Summary{}) {
		t.Errorf("of nothing: %+v", s)
	}
	r.Write(0, 0, 8)
	r.Write(1, 640, 64)
	r.Write(0, 56, 16) // two lines, one of them again
	r.Barrier(0)       // an epoch of 2
	r.Barrier(0)       // none
	r.Write(0, 8, 8)
	r.Barrier(0) // an epoch of 1
	r.Commit(1)  // a transaction of an epoch of 1
	r.Write(0, 64, 64*3)
	r.Commit(0) // an epoch of 3
	r.Commit(0) // nothing
	want := epochs.Summary{Transactions: 2, P5: 1, P50: 1, P95: 3, Max: 3, Mean: 2, OneLine: 0.5, Width: 7.0 / 4, Width99: 3,
		Lines: 1, LinesMean: 3.5, Distinct: 2.5, Bytes: (8 + 16 + 8 + 64*3 + 64) / 2.0, Rewrites: 3.5 / 2.5}
	if s := r.Summary(); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	r.Reset()
	if s := r.Summary(); s != (epochs.Summary{}) {
		t.Errorf("after Reset: %+v", s)
	}
}

// TestQuantiles: of a hundred transactions of 1 to 100 epochs.
func TestQuantiles(t *testing.T) {
	r := epochs.NewRecorder()
	for n := range 100 {
		for e := range n + 1 {
			r.Write(0, uint64(e)*64, 1)
			r.Barrier(0)
		}
		r.Commit(0)
	}
	if s := r.Summary(); s.P5 != 5 || s.P50 != 50 || s.P95 != 95 || s.Max != 100 || s.Mean != 50.5 || s.OneLine != 1 || s.Rewrites != 1 {
		t.Errorf("%+v", s)
	}
}
