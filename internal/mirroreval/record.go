package mirroreval

import (
	"context"
	"errors"
	"fmt"
	"io"

	"whale/mirror"
	"whale/workload"
	"whale/workload/trace"
)

// Record runs a workload without mirrors, one thread after the other, and writes its trace. threads and transactions are as
// for [NewSubject].
func Record(out io.Writer, w workload.Workload, threads, transactions int, seed uint64) error {
	s, err := NewSubject(w, threads, transactions, DefaultEpochs, seed)
	if err != nil {
		return err
	}
	rec := trace.NewRecorder(out)
	return errors.Join(s.observe(&switched{to: rec}), rec.Close())
}

// switched passes on what it hears once it is on: what a workload does to open its data is not part of a trace.
type switched struct {
	to mirror.Observer
	on bool
}

func (s *switched) Write(thread int, off, n uint64) {
	if s.on {
		s.to.Write(thread, off, n)
	}
}

func (s *switched) Barrier(thread int) {
	if s.on {
		s.to.Barrier(thread)
	}
}

func (s *switched) Commit(thread int) {
	if s.on {
		s.to.Commit(thread)
	}
}

// observe runs the workload without mirrors and without a model, one thread after the other, with an observer of what its
// threads do.
func (s *Subject) observe(o *switched) error {
	copy(s.primary.Bytes(), s.image)
	r, err := mirror.Open(context.Background(), s.primary, nil, nil, mirror.Options{Threads: s.Threads, Observer: o})
	if err != nil {
		return err
	}
	p, err := s.Open(r)
	if err != nil {
		return fmt.Errorf("%s: open: %w", s.Name(), err)
	}
	o.on = true
	for i := range s.Threads {
		if err := p.Run(workload.NewThread(i, s.Seed, idleMachine{}), s.Transactions); err != nil {
			return fmt.Errorf("%s: thread %d: %w", s.Name(), i, err)
		}
	}
	o.on = false
	if err := p.Check(); err != nil {
		return fmt.Errorf("%s: after the run: %w", s.Name(), err)
	}
	return r.Close()
}
