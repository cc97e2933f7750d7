package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"whale/fabric"
	"whale/pmem"
)

// Export offers a memory to be the mirror of some primary's region. Its methods may be called by any goroutine.
type Export struct {
	// Report, if not nil, hears why somebody who dialed was refused or did not get through; of failures that repeat themselves, one in
	// ten seconds. It is set before Serve or Answer is called, and called by any goroutine.
	Report func(error)

	ep    fabric.Endpoint
	mem   pmem.Memory
	limit time.Duration
	boot  [2]uint64

	mu      sync.Mutex
	session ID
	key     fabric.Key // 0: no session
	closed  bool

	reported struct {
		sync.Mutex
		text string
		when time.Time
	}
}

// NewExport offers m, all of it, at ep. The memory must stay mapped until Close has returned. Errors: those of [Inspect];
// memory that survives nothing.
func NewExport(ep fabric.Endpoint, m pmem.Memory) (*Export, error) {
	if _, err := Inspect(m); err != nil {
		return nil, err
	}
	if m.Domain() == pmem.None {
		return nil, errors.New("mirror: the memory survives nothing, so a mirror in it would be none: map a file (pmem.Map)")
	}
	boot, err := pmem.Boot()
	if err != nil {
		return nil, err
	}
	return &Export{ep: ep, mem: m, limit: DefaultTimeout, boot: boot}, nil
}

// Answer is what an endpoint's Accept needs. It admits a primary whose region fits, and withdraws the memory from the one
// before; nothing of that one lands any more. It refuses, with the reason: another size, region or version; a primary
// whose copy is older than this one. A refusal is an answer, too; the error is always nil.
func (x *Export) Answer(b []byte) ([]byte, error) {
	answer, err := x.admit(b)
	if err != nil {
		x.report(err)
		return refusal(err), nil
	}
	return answer, nil
}

// report tells of a failure, unless it is the last one again.
func (x *Export) report(err error) {
	if x.Report == nil {
		return
	}
	r := &x.reported
	r.Lock()
	defer r.Unlock()
	if text := err.Error(); text != r.text || time.Since(r.when) > reportEvery {
		r.text, r.when = text, time.Now()
		x.Report(err)
	}
}

const reportEvery = 10 * time.Second

// admit tells a primary, too, that the memory's file was shortened, of which the process would die otherwise.
func (x *Export) admit(b []byte) (_ []byte, err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	var h hello
	if err := h.decode(b); err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil, fabric.ErrClosed
	}
	own, err := Inspect(x.mem)
	if err != nil {
		return nil, err
	}
	if h.kind == kindFurther {
		if x.key == 0 || h.session != x.session {
			return nil, errors.New("mirror: another primary has taken this mirror over since: this one has to stop, or to open its region again")
		}
	} else {
		if err := fits(h.label, own); err != nil {
			return nil, err
		}
		if err := x.withdraw(); err != nil {
			return nil, err
		}
		key, err := x.ep.Register(x.mem, 0, own.Size, fabric.RemoteRead|fabric.RemoteWrite|fabric.RemoteFlush)
		if err != nil {
			return nil, err
		}
		x.session, x.key = h.session, key
	}
	a := answer{key: x.key, label: own, domain: x.mem.Domain(), boot: x.boot}
	return a.encode(), nil
}

// fits says why a mirror cannot become, or go on being, a copy of a primary's region.
func fits(primary, mirror Label) error {
	switch {
	case primary.Size != mirror.Size:
		return fmt.Errorf("mirror: the primary's memory has %d bytes, the mirror's %d: serve a file of the same size", primary.Size, mirror.Size)
	case mirror.State.Condition == Blank:
		return nil
	case primary.ID != mirror.ID:
		return fmt.Errorf("mirror: the mirror holds region %v, the primary has %v: serve another file; or, if what the mirror holds is not needed any more, remove it and serve an empty one",
			mirror.ID, primary.ID)
	case mirror.State.Generation > primary.State.Generation && mirror.State.Condition == Filling:
		return fmt.Errorf("mirror: the mirror holds an unfinished copy of a newer region, %v, than the primary's, %v: if the copy that it was filled from still exists, open that one; else remove the mirror's, which is of no use, and serve an empty file",
			mirror.State, primary.State)
	case mirror.State.Generation > primary.State.Generation:
		return fmt.Errorf("mirror: the mirror's copy is newer, %v, than the primary's, %v: open the mirror's copy as the primary's; or remove it, which loses what only it holds",
			mirror.State, primary.State)
	case mirror.State.Generation == primary.State.Generation && mirror.State.Tag != primary.State.Tag && mirror.State.Condition != Filling:
		return fmt.Errorf("mirror: both copies have been written to independently since generation %d: choose one, and serve an empty file in place of the other",
			mirror.State.Generation-1)
	}
	return nil
}

// withdraw ends the session, if there is one: nothing of it lands any more. Under mu.
func (x *Export) withdraw() error {
	if x.key == 0 {
		return nil
	}
	start := time.Now()
	for {
		err := x.ep.Revoke(x.key)
		if err == nil {
			x.key = 0
			return nil
		}
		if !errors.Is(err, fabric.ErrInFlight) || time.Since(start) > x.limit {
			return fmt.Errorf("mirror: withdraw the memory from the primary before: %w", err)
		}
		runtime.Gosched()
	}
}

// Close withdraws the memory: when it has returned nil, nothing changes it from outside any more, and it may be opened as the
// primary's. It does not close the endpoint.
func (x *Export) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	return x.withdraw()
}

// Label is what the memory holds now.
func (x *Export) Label() (Label, error) { return Inspect(x.mem) }

// Serve admits primaries until ctx ends, and closes the export. It owns ep meanwhile: nobody else may accept there, or
// arm it. It returns nil when ctx ends. Fabrics without goroutines (simfab) call [Export.Answer] themselves.
func (x *Export) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := server{x: x}
	nowhere, err := pmem.Anonymous(64)
	if err != nil {
		return err
	}
	defer nowhere.Close()
	landing, err := x.ep.Register(nowhere, 0, 64, fabric.LocalOnly)
	if err != nil {
		return err
	}
	defer revoke(x.ep, landing)
	s.landing = landing
	failed := make(chan error, 1)
	go func() { failed <- s.accept(ctx) }()
	for ctx.Err() == nil {
		if x.ep.Arm() {
			x.ep.Wait(lookout)
		}
		s.reap()
		select {
		case err := <-failed:
			s.closeAll()
			return errors.Join(err, x.Close())
		default:
		}
	}
	err = <-failed
	s.closeAll()
	return errors.Join(err, x.Close())
}

// respite is how long accept waits after a failure.
const respite = 10 * time.Millisecond

// lookout is how often Serve looks at its context: nothing rings for that.
const lookout = 20 * time.Millisecond

// server holds the accepted connections for as long as they live.
type server struct {
	x       *Export
	landing fabric.Key // where nothing ever lands

	mu    sync.Mutex
	conns []fabric.Conn
}

func (s *server) accept(ctx context.Context) error {
	for {
		c, err := s.x.ep.Accept(ctx, s.x.Answer)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, fabric.ErrClosed):
			return err
		case err != nil: // who dialed was told why, or is gone; or, and that lasts, this side is out of something
			s.x.report(err)
			select {
			case <-ctx.Done():
			case <-time.After(respite):
			}
			continue
		}
		// Nobody sends to a mirror: a receive ends when the connection does.
		if c.Post([]fabric.Op{{Kind: fabric.Recv, Local: fabric.Span{Key: s.landing}, Len: 64}}) != 1 {
			c.Close() // its end would never be seen
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
	}
}

// reap closes the connections whose peers are gone.
func (s *server) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var done [1]fabric.Completion
	living := s.conns[:0]
	for _, c := range s.conns {
		if c.Poll(done[:]) > 0 {
			c.Close()
		} else {
			living = append(living, c)
		}
	}
	clear(s.conns[len(living):])
	s.conns = living
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}
