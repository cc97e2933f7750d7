package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Campaign is many runs, one for each seed.
type Campaign struct {
	Options  Options // Trace is for a campaign of one seed
	First    uint64  // seed
	Seeds    uint64
	Workers  int                      // runs at a time; 0: one for each processor
	Progress func(done, total uint64) // after each run, from any goroutine; nil: nobody listens
}

// Report is how a campaign ended.
type Report struct {
	Seeds      uint64 // that were run
	Operations uint64
	Faults     uint64
	Events     uint64
	Unsure     uint64   // histories for whose check the time did not suffice
	Failure    *Failure // of the lowest seed that failed; nil: none did
}

// Failure is a seed that failed, and the smallest schedule that was found to fail in the same way.
type Failure struct {
	Result *Result
	Small  *Result
	Faults Faults // what makes Small of the seed
}

// Check runs a campaign. It ends with the first failure, when the runs of lower seeds are over. An error says that
// the options make no sense, or that ctx is done.
func Check(ctx context.Context, c Campaign) (*Report, error) {
	if err := c.Options.Faults.Validate(); err != nil {
		return nil, err
	}
	if c.Seeds == 0 {
		return nil, fmt.Errorf("no seeds to run: at least 1")
	}
	if c.Options.Trace != nil && c.Seeds > 1 {
		return nil, fmt.Errorf("a trace is the story of one seed, not of %d", c.Seeds)
	}
	workers := c.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var (
		next  atomic.Uint64 // seeds handed out
		mu    sync.Mutex
		rep   Report
		first *Result // the failure of the lowest seed
		wrong error
		wg    sync.WaitGroup
	)
	for range min(uint64(workers), c.Seeds) {
		wg.Go(func() {
			p := &pool{}
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				if n >= c.Seeds {
					return
				}
				o := c.Options
				res, err := simulate(c.First+n, &o, p)
				mu.Lock()
				if err != nil {
					wrong = err
				} else {
					rep.Seeds++
					rep.Operations += uint64(res.Operations)
					rep.Faults += uint64(len(res.Faults))
					rep.Events += res.Events
					rep.Unsure += uint64(res.Unsure)
					if res.Violation != nil && (first == nil || res.Seed < first.Seed) {
						first = res
						next.Store(c.Seeds)
					}
				}
				done := rep.Seeds
				mu.Unlock()
				if c.Progress != nil {
					c.Progress(done, c.Seeds)
				}
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if wrong == nil && first == nil {
		wrong = ctx.Err()
	}
	if first != nil {
		rep.Failure = shrink(ctx, first, &c.Options)
	}
	return &rep, wrong
}

// shrinkRuns bounds the runs that looking for a smaller schedule may take.
const shrinkRuns = 400

// shrink looks for a smaller schedule, fewer clients and operations with which the seed violates the same invariant.
func shrink(ctx context.Context, failed *Result, o *Options) *Failure {
	f := &Failure{Result: failed, Small: failed}
	cluster := failed.Cluster
	f.Faults = Faults{Drift: o.Faults.Drift, Bound: o.Faults.Bound, Schedule: append([]Fault{}, failed.Faults...), Cluster: &cluster}
	runs, p := 0, &pool{}
	try := func(with Faults) bool {
		if runs++; runs > shrinkRuns || ctx.Err() != nil {
			return false
		}
		small := *o
		small.Trace, small.Faults = nil, with
		res, err := simulate(failed.Seed, &small, p)
		if err != nil || res.Violation == nil || res.Violation.Invariant != failed.Violation.Invariant {
			return false
		}
		f.Faults, f.Small = with, res
		return true
	}
	resized := func(change func(*Cluster) bool) bool {
		with, c := f.Faults, *f.Faults.Cluster
		with.Cluster = &c
		return change(&c) && try(with)
	}
	fewerOperations := func(part int) func(*Cluster) bool {
		return func(c *Cluster) bool {
			n := c.Operations - c.Operations/part
			less := n < c.Operations
			c.Operations = n
			return less
		}
	}
	for _, part := range []int{2, 4, 8} {
		for resized(fewerOperations(part)) {
		}
	}
	for size := len(f.Faults.Schedule); size > 0; size /= 2 {
		for from := 0; from < len(f.Faults.Schedule); {
			with := f.Faults
			to := min(from+size, len(with.Schedule))
			with.Schedule = append(append([]Fault{}, with.Schedule[:from]...), with.Schedule[to:]...)
			if !try(with) {
				from += size
			}
		}
	}
	for _, part := range []int{2, 4, 8, 16} {
		for resized(fewerOperations(part)) {
		}
	}
	for resized(func(c *Cluster) bool { c.Clients--; return c.Clients > 0 }) {
	}
	return f
}

// JSON is the schedule as a file that [ReadFaults] reads.
func (f *Failure) JSON() ([]byte, error) {
	return json.MarshalIndent(struct {
		Drift    float64  `json:"drift"`
		Bound    float64  `json:"bound,omitempty"`
		Cluster  *Cluster `json:"cluster"`
		Schedule []Fault  `json:"schedule"`
	}{f.Faults.Drift, f.Faults.Bound, f.Faults.Cluster, f.Faults.Schedule}, "", "  ")
}
