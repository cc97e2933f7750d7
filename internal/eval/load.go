//go:build linux

// Package eval measures: it drives Redis servers with load, Whale among them, and compares what it saw.
//
// The load is a closed loop: each connection has one batch of requests outstanding and sends the next one when the last
// reply of the batch has come. Its latencies are therefore those that clients see who wait for their answers; they say
// nothing about requests that would have arrived meanwhile at a fixed rate ("coordinated omission" is not corrected,
// because a closed loop has no schedule to correct by).
package eval

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Op is what a batch consists of.
type Op uint8

const (
	Set     Op = iota // SET key value
	Get               // GET key
	SetWait           // SETs, and one WAIT behind the last of the batch: all are done when WAIT has answered
)

func (o Op) String() string { return [...]string{"SET", "GET", "SET+WAIT"}[o] }

// ParseOp reads "set", "get" or "set+wait".
func ParseOp(s string) (Op, error) {
	for _, o := range []Op{Set, Get, SetWait} {
		if strings.EqualFold(s, o.String()) {
			return o, nil
		}
	}
	return 0, fmt.Errorf("operation %q: set, get and set+wait exist", s)
}

// KeySize is the length of every key: "key:" and twelve digits.
const KeySize = 16

// Load is one run.
type Load struct {
	Addrs    []string // host:port; connections are dealt out to them in turn
	TLS      *TLS     // nil: none
	Op       Op
	Conns    int
	Pipeline int // requests in a batch
	Value    int // bytes of a value
	Keys     int // the key space; keys are drawn from it uniformly
	// Duration and Count bound the run, whichever is reached first; 0 is no bound. Count counts the warm-up too and
	// is rounded up to a whole batch for each connection.
	Duration time.Duration
	Count    uint64
	// Warmup is not measured: it ends after this time, or a fifth of Count if that comes first.
	Warmup   time.Duration
	Replicas int  // SetWait: what WAIT asks for; fewer is an error
	InOrder  bool // each key of the space in turn instead of a random one: to fill it
	Workers  int  // event loops, each with its share of the connections; 0 is 1
	Seed     uint64
	Stall    time.Duration      // no reply at all for so long is an error; 0 is 10 s
	Progress func(part float64) // called about ten times a second with how much is done, 0 to 1; may be nil
}

// Result is what a run measured, warm-up excluded.
type Result struct {
	Load    Load
	Ops     uint64
	Elapsed time.Duration // from the first request after the warm-up to the last reply
	Latency *hdrhistogram.Histogram
	// Errors counts replies that are not what the request must get, by their text, the warm-up included: error
	// replies, GETs that found nothing or the wrong length, WAITs that reached too few.
	Errors map[string]uint64
}

// Rate is operations a second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Ops) / r.Elapsed.Seconds()
}

// Quantile is a latency; p in per cent.
func (r *Result) Quantile(p float64) time.Duration {
	return time.Duration(r.Latency.ValueAtPercentile(p))
}

// Err is nil if every reply was what it must be.
func (r *Result) Err() error {
	if len(r.Errors) == 0 {
		return nil
	}
	var b strings.Builder
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, "\n  %d times: %s", r.Errors[text], text)
	}
	return fmt.Errorf("%s to %s: wrong replies%s", r.Load.Op, strings.Join(r.Load.Addrs, ","), b.String())
}

func (l *Load) validate() error {
	switch {
	case len(l.Addrs) == 0:
		return errors.New("no address to drive")
	case l.Conns < 1 || l.Pipeline < 1:
		return fmt.Errorf("connections %d, pipeline %d: both must be at least 1", l.Conns, l.Pipeline)
	case l.Keys < 1 || l.Value < 1:
		return fmt.Errorf("keys %d, value %d bytes: both must be at least 1", l.Keys, l.Value)
	case l.Duration <= 0 && l.Count == 0:
		return errors.New("neither a duration nor a count bounds the run")
	}
	return nil
}

// Run drives the servers. The error is about the run (no connection, a stall, ctx ended); wrong replies are in the
// result.
func (l Load) Run(ctx context.Context) (*Result, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	l.Workers = min(max(l.Workers, 1), l.Conns)
	if l.Stall == 0 {
		l.Stall = 10 * time.Second
	}
	run := &run{Load: l}
	defer context.AfterFunc(ctx, func() { run.abort.Store(true) })()
	workers := make([]*worker, l.Workers)
	for i := range workers {
		w, err := newWorker(run, i)
		if err != nil {
			for _, w := range workers[:i] {
				w.close()
			}
			return nil, err
		}
		workers[i] = w
	}
	run.started = time.Now()
	stop := run.report()
	errs := make([]error, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() {
			defer w.close()
			if errs[i] = w.loop(); errs[i] != nil {
				run.abort.Store(true)
			}
		})
	}
	wg.Wait()
	stop()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return run.result(workers), nil
}

// run is what the workers of one run share.
type run struct {
	Load
	started time.Time
	abort   atomic.Bool   // a worker failed, or the context ended
	sent    atomic.Uint64 // operations taken from Count
	done    atomic.Uint64 // operations answered
}

// now is nanoseconds since the start.
func (r *run) now() int64 { return int64(time.Since(r.started)) }

// report calls Progress until the returned function is called.
func (r *run) report() func() {
	if r.Progress == nil {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.Progress(r.part())
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-gone }
}

func (r *run) part() float64 {
	var part float64
	if r.Count > 0 {
		part = float64(r.done.Load()) / float64(r.Count)
	}
	if r.Duration > 0 {
		part = max(part, float64(r.now())/float64(r.Warmup+r.Duration))
	}
	return min(part, 1)
}

func (r *run) result(workers []*worker) *Result {
	res := &Result{Load: r.Load, Latency: newHistogram(), Errors: map[string]uint64{}}
	first, last := int64(-1), int64(0)
	for _, w := range workers {
		res.Latency.Merge(w.hist)
		res.Ops += w.ops
		for text, n := range w.errors {
			res.Errors[text] += n
		}
		if w.measuring && (first < 0 || w.measured < first) {
			first = w.measured
		}
		last = max(last, w.last)
	}
	if first >= 0 {
		res.Elapsed = time.Duration(last - first)
	}
	return res
}

// newHistogram holds nanoseconds up to a minute, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }
