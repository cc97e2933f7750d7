// Package mirroreval measures what mirroring costs: it runs workloads under every strategy of package mirror, on modelled
// hardware, and compares.
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
)

// Subject is a workload with its data prepared once, to be run from the same state again and again.
type Subject struct {
	workload.Workload
	Threads      int
	Transactions int // of each thread, in one run
	Seed         uint64
	Shape        Shape // of a run

	image           []byte           // the memory from which a run starts: a region that was closed orderly
	primary, mirror *pmem.HeapMemory // of the run under way
}

// Shape is what a run's transactions looked like, all threads together.
type Shape struct {
	Transactions, Epochs int
	Lines                int // written, epoch by epoch: a line that two epochs write counts twice
	Bytes                uint64
}

// NewSubject prepares a workload. threads 0 is the workload's own number. transactions 0 is as many for each thread as
// give a run about so many epochs, and ten times as many lines at most.
func NewSubject(w workload.Workload, threads, transactions, epochs int, seed uint64) (*Subject, error) {
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
		each := float64(threads) * max(float64(sample.Epochs), float64(sample.Lines)/10, 1) / float64(max(1, sample.Transactions))
		s.Transactions = max(20, int(float64(epochs)/each))
	}
	s.Shape, err = s.run()
	return s, err
}

// run runs the workload without mirrors and without a model and says what its transactions look like.
func (s *Subject) run() (Shape, error) {
	var c counter
	err := s.observe(&switched{to: &c})
	return c.shape, err
}

// idleMachine does nothing.
type idleMachine struct{ workload.Real }

// Compute returns at once.
func (idleMachine) Compute(time.Duration) {}

// counter is a mirror.Observer that counts, one transaction at a time.
type counter struct {
	shape Shape
	lines map[uint64]struct{}
}

func (c *counter) Write(_ int, off, n uint64) {
	if c.lines == nil {
		c.lines = map[uint64]struct{}{}
	}
	for line := off / 64; line*64 < off+n; line++ {
		c.lines[line] = struct{}{}
	}
	c.shape.Bytes += n
}

func (c *counter) Barrier(int) {
	if len(c.lines) > 0 {
		c.shape.Epochs++
		c.shape.Lines += len(c.lines)
		clear(c.lines)
	}
}

func (c *counter) Commit(int) {
	c.Barrier(0)
	c.shape.Transactions++
}

// Model runs the workload on modelled hardware under a strategy and says how long it took in virtual time. Afterwards the
// data is checked, and the mirror is compared with it.
func (s *Subject) Model(p timing.Params, strategy mirror.Strategy) (took time.Duration, err error) {
	fail := func(err error) (time.Duration, error) {
		return 0, fmt.Errorf("%s, %v: %w", s.Name(), strategy, err)
	}
	m, err := timing.New(p, s.Seed)
	if err != nil {
		return 0, err
	}
	a, b := m.Node("primary"), m.Node("mirror")
	copy(s.primary.Bytes(), s.image)
	var peers []string
	if strategy != mirror.None {
		copy(s.mirror.Bytes(), s.image) // both were closed in the same state, so that nothing has to be copied over the fabric
		x, err := mirror.NewExport(b.Endpoint(), b.Memory(s.mirror))
		if err != nil {
			return fail(err)
		}
		b.Listen(x.Answer)
		peers = []string{b.Endpoint().Addr()}
	}
	r, err := mirror.Open(context.Background(), a.Memory(s.primary), a.Endpoint(), peers, mirror.Options{Strategy: strategy, Threads: s.Threads, Idle: m.Idle})
	if err != nil {
		return fail(err)
	}
	program, err := s.Open(r)
	if err != nil {
		return fail(err)
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
	took = m.Now() - start
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	if err := program.Check(); err != nil {
		return fail(err)
	}
	if strategy != mirror.None && !bytes.Equal(s.primary.Bytes()[mirror.HeadSize:], s.mirror.Bytes()[mirror.HeadSize:]) {
		return fail(errors.New("the mirror differs from the primary after the last commit"))
	}
	if err := r.Close(); err != nil {
		return fail(err)
	}
	return took, nil
}
