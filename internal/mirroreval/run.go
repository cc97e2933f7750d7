// Package mirroreval measures what mirroring costs: it runs workloads under every strategy of package mirror, on modelled
// hardware or on a real fabric, and compares.
package mirroreval

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"whale/mirror"
	"whale/pmem"
	"whale/timing"
	"whale/workload"
	"whale/workload/epochs"
)

// Subject is a workload with its data prepared once, to be run from the same state again and again.
type Subject struct {
	workload.Workload
	Threads      int
	Transactions int // of each thread, in one run
	Seed         uint64
	Shape        epochs.Summary // of a run

	group           string
	image           []byte           // the memory from which a run starts: a region that was closed orderly
	primary, mirror *pmem.HeapMemory // of the run under way
}

// NewSubject prepares a workload. threads 0 is the workload's own number. transactions 0 is as many for each thread as
// give a run about so many epochs, and ten times as many lines at most.
func NewSubject(w workload.Workload, threads, transactions, enough int, seed uint64) (*Subject, error) {
	if threads == 0 {
		threads = w.Threads()
	}
	s := &Subject{Workload: w, Threads: threads, Transactions: transactions, Seed: seed}
	size := (mirror.HeadSize + w.Size() + 63) &^ 63
	m := pmem.HeapOf(size, pmem.ADR)
	r, err := mirror.Open(context.Background(), m, nil, nil, mirror.Options{})
	if err != nil {
		return nil, err
	}
	if err := w.Prepare(r); err != nil {
		return nil, fmt.Errorf("%s: prepare: %w", w.Name(), err)
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	s.image = m.Bytes()
	s.primary, s.mirror = pmem.HeapOf(size, pmem.ADR), pmem.HeapOf(size, pmem.ADR)
	if transactions == 0 {
		s.Transactions = 20
		sample, err := s.run()
		if err != nil {
			return nil, err
		}
		each := float64(threads) * max(sample.Mean, sample.LinesMean/10, 1)
		s.Transactions = max(20, int(float64(enough)/each))
	}
	s.Shape, err = s.run()
	return s, err
}

// run runs the workload without mirrors and without a model and says what its transactions look like.
func (s *Subject) run() (epochs.Summary, error) {
	rec := epochs.NewRecorder()
	err := s.observe(&switched{to: rec})
	return rec.Summary(), err
}

// idleMachine does nothing.
type idleMachine struct{ workload.Real }

// Compute returns at once.
func (idleMachine) Compute(time.Duration) {}

// Runner runs a subject's transactions once under a strategy and says how long they took. An error that is
// fabric.ErrUnsupported says that the strategy is not to be had there.
type Runner func(ctx context.Context, s *Subject, strategy mirror.Strategy) (time.Duration, error)

// OnModel is the Runner of modelled hardware, in virtual time.
func OnModel(p timing.Params) Runner {
	return func(ctx context.Context, s *Subject, strategy mirror.Strategy) (time.Duration, error) {
		m, err := timing.New(p, s.Seed)
		if err != nil {
			return 0, err
		}
		s.reset(s.primary, s.mirror)
		a, b := m.Node("primary"), m.Node("mirror")
		var peers []string
		if strategy != mirror.None {
			x, err := mirror.NewExport(b.Endpoint(), b.Memory(s.mirror))
			if err != nil {
				return 0, err
			}
			b.Listen(x.Answer)
			peers = []string{b.Endpoint().Addr()}
		}
		r, err := mirror.Open(ctx, a.Memory(s.primary), a.Endpoint(), peers, mirror.Options{Strategy: strategy, Threads: s.Threads, Idle: m.Idle})
		if err != nil {
			return 0, err
		}
		program, err := s.Open(r)
		if err != nil {
			return 0, err
		}
		errs := make([]error, s.Threads)
		threads := make([]func(), s.Threads)
		for i := range threads {
			t := workload.NewThread(i, s.Seed, m)
			threads[i] = func() { errs[i] = program.Run(t, s.Transactions) }
		}
		m.Settle()
		start := m.Now()
		m.Run(threads...)
		took := m.Now() - start
		if err := errors.Join(errs...); err != nil {
			return 0, err
		}
		return took, s.finish(r, program, s.primary, s.mirror)
	}
}

// reset puts the memories of both sides into the state from which a run starts. Both hold a region that was closed in the same state,
// so that opening it copies nothing over the fabric.
func (s *Subject) reset(primary, mirror pmem.Memory) {
	copy(primary.Bytes(), s.image)
	copy(mirror.Bytes(), s.image)
}

// finish ends a run: the data must be right, and the mirror the same.
func (s *Subject) finish(r *mirror.Region, program workload.Program, primary, copy pmem.Memory) error {
	if err := program.Check(); err != nil {
		return err
	}
	mirrored := len(r.Mirrors()) > 0
	if mirrored && !bytes.Equal(primary.Bytes()[mirror.HeadSize:len(s.image)], copy.Bytes()[mirror.HeadSize:len(s.image)]) {
		return errors.New("the mirror differs from the primary after the last commit")
	}
	return r.Close()
}
