package mirror

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"whale/fabric"
	"whale/pmem"
)

// Region is the primary's end of a mirrored region.
//
// Lock order: peersMu, mu.
type Region struct {
	mem   pmem.Memory
	data  []byte // mem without the label
	ep    fabric.Endpoint
	opts  Options
	label Label // its state is changed under mu
	boot  [2]uint64
	// whole is a key for all of mem, local only: what a mirror is filled from.
	whole fabric.Key

	peersMu sync.Mutex // one Open, Resync or Close at a time; guards what of peers is not atomic
	peers   []*peer    // the same ones for ever

	mu      sync.Mutex
	changed sync.Cond // of free, quiet
	free    []*Tx     // nobody uses; the one used last goes first
	quiet   bool      // no transaction may begin
	stopped error     // why no transaction ever begins again
	all     []*Tx

	lost       atomic.Int32 // mirrors that are lost
	announcing sync.Mutex   // held by the transaction that tells the mirrors of a generation
	parked     sync.Mutex   // held by whoever waits at the endpoint's doorbell
}

// ErrLost is what a transaction fails with, and Begin from then on, when a mirror was lost and the region may not go on
// without it.
var ErrLost = errors.New("mirror: a mirror was lost")

// ErrRestarted is what Open fails with when the primary's machine has been started again since its copy was written, the copy is in a plain
// file, which may have lost what was committed before that, and a mirror of the same generation holds something else. Nothing has been
// changed: open the mirror's copy in place of this one. Options.Trust says that this one is known to be good.
var ErrRestarted = errors.New("mirror: the machine was started again, and its copy may have lost what was committed")

// ErrClosed is the error of Begin on a closed region.
var ErrClosed = errors.New("mirror: the region is closed")

// Open makes m the primary's copy of a region and every peer a mirror of it, whole: when it has returned, they are identical.
// A memory that was never used becomes a new region; one that was, the primary's own or a mirror's after a failover, is opened as
// it is, and what wrote it has to recover it. Bytes of the memory from HeadSize on are the region's.
//
// A peer is the address of an endpoint at which the memory is exported ([Export]). Its memory is filled from m, unless both were
// closed orderly in the same state, and no plain file of the two has seen its machine restarted. peers is empty with Strategy None, and only then.
//
// The endpoint stays the caller's, who closes it after the region; with mirrors, and without Options.Idle, the region owns its
// Arm and Wait until then. m must stay mapped until Close.
//
// Errors: a mirror cannot be reached, or does not fit (see [Export.Answer]); its memory or its way there cannot keep the
// strategy's promise (wraps fabric.ErrUnsupported); m holds an unfinished copy, or one that may have lost something ([ErrRestarted]). With OnLoss GoOn a mirror that cannot be reached
// is lost from the start, as is one that is lost while it is filled, and Resync fills it later; a mirror that does not fit is an error always.
func Open(ctx context.Context, m pmem.Memory, ep fabric.Endpoint, peers []string, o Options) (_ *Region, err error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	switch {
	case o.Strategy == None && len(peers) > 0:
		return nil, fmt.Errorf("mirror: strategy none with %d mirrors: choose another strategy, or no mirrors", len(peers))
	case o.Strategy != None && len(peers) == 0:
		return nil, fmt.Errorf("mirror: strategy %v without a mirror: name one, or choose strategy none", o.Strategy)
	}
	l, err := Inspect(m)
	if err != nil {
		return nil, err
	}
	if l.State.Condition == Filling {
		return nil, errors.New("mirror: the memory holds an unfinished copy: a primary was filling it when the two lost each other; open another copy")
	}
	if l.State.Condition == Blank {
		if l, err = format(m); err != nil {
			return nil, err
		}
	}
	boot, err := pmem.Boot()
	if err != nil {
		return nil, err
	}
	r := &Region{boot: boot, mem: m, data: m.Bytes()[HeadSize:], ep: ep, opts: o, label: l}
	r.changed.L = &r.mu
	for i := range o.Threads {
		r.all = append(r.all, newTx(r, i))
	}
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	was := l.State
	if r.label.State, err = was.next(); err != nil {
		return nil, err
	}
	if err := r.connect(ctx, peers, was, l.outlived(m.Domain(), boot)); err != nil {
		return nil, err
	}
	for i := range r.all {
		r.free = append(r.free, r.all[len(r.all)-1-i])
	}
	return r, nil
}

// connect begins the new generation here, and then at every mirror: a mirror is never ahead. If this copy may have lost something of what
// it had, and nobody says that it has not, mirrors that may have more have to be the same.
func (r *Region) connect(ctx context.Context, addrs []string, was State, outlived bool) error {
	doubt := outlived && !r.opts.Trust
	if len(addrs) > 0 {
		var err error
		if r.whole, err = r.ep.Register(r.mem, 0, r.label.Size, fabric.LocalOnly); err != nil {
			return err
		}
		for _, t := range r.all {
			if err := t.makeStage(); err != nil {
				return err
			}
		}
	}
	// All must fit before any copy, this one included, is changed.
	for _, addr := range addrs {
		p := &peer{addr: addr, dirty: newDirty(r.label.Size)}
		r.peers = append(r.peers, p)
		p.dirty.all(r.label.Size)
		err := p.dial(ctx, r, was)
		var gone *unreachable
		if err != nil && (doubt || !errors.As(err, &gone) || r.opts.OnLoss != GoOn) {
			return err
		}
		if err != nil {
			p.lost.Store(&err)
			r.lost.Add(1)
			continue
		}
		if doubt && p.label.State.Condition != Blank && p.label.State.Condition != Filling && p.label.State.sameWrites(was) {
			if err := p.compare(ctx, r); err != nil {
				return err
			}
		}
	}
	r.label.State.store(r.mem)
	storeBoot(r.mem, r.boot)
	for _, p := range r.peers {
		if p.lost.Load() != nil {
			continue
		}
		var err error
		if outlived && !doubt || p.outlived || p.label.State.Condition != Clean || was.Condition != Clean || !p.label.State.sameWrites(was) {
			err = p.fill(ctx, r)
		}
		if err == nil {
			err = p.follow(ctx, r)
		}
		if err = r.without(ctx, p, err); err != nil {
			return err
		}
	}
	return r.begin(ctx)
}

// begin tells the mirrors that have been filled of the generation, and makes them follow. One that is lost on the way may have heard
// of it: then those that are left begin another.
func (r *Region) begin(ctx context.Context) error {
	for told := false; !told; {
		told = true
		for _, p := range r.peers {
			if p.lost.Load() != nil {
				continue
			}
			err := p.setState(r, r.label.State)
			told = told && err == nil
			if err = r.without(ctx, p, err); err != nil {
				return err
			}
		}
	}
	for _, p := range r.peers {
		if p.lost.Load() == nil {
			p.dirty.clear()
		}
	}
	return nil
}

// without goes on without a mirror that is lost while it is made to follow, if that is the error, and the region may. Else it
// returns the error.
func (r *Region) without(ctx context.Context, p *peer, err error) error {
	var gone *unreachable
	if err == nil || r.opts.OnLoss != GoOn || ctx.Err() != nil || !errors.Is(err, ErrLost) && !errors.As(err, &gone) {
		return err
	}
	for _, t := range r.all {
		t.forget(p)
	}
	p.hangUp()
	return r.lose(p, err)
}

// Size is how many bytes the region has for programs.
func (r *Region) Size() uint64 { return uint64(len(r.data)) }

// Bytes is the region, for reading: what is stored there by other ways than a transaction reaches no mirror. The slice stays
// valid until the memory is closed.
func (r *Region) Bytes() []byte { return r.data }

// Threads is how many transactions may be under way at a time.
func (r *Region) Threads() int { return r.opts.Threads }

// Load64 is an atomic load of the word at off, a multiple of 8.
func (r *Region) Load64(off uint64) uint64 { return r.mem.Load64(HeadSize + off) }

// Label is what the head of the primary's copy says.
func (r *Region) Label() Label {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.label
}

// Mirror tells of one mirror.
type Mirror struct {
	Addr  string
	Lost  error  // why it is lost; nil: it follows
	Dirty uint64 // of a lost one: how many bytes have to be copied before it follows again
	// Filling: Resync copies them now.
	Filling bool
}

// Mirrors tells of all mirrors, in the order of Open. It waits for nobody.
func (r *Region) Mirrors() []Mirror {
	out := make([]Mirror, len(r.peers))
	for i, p := range r.peers {
		out[i].Addr, out[i].Filling = p.addr, p.filling.Load()
		if why := p.lost.Load(); why != nil {
			out[i].Lost, out[i].Dirty = *why, p.dirty.bytes(r.label.Size)
		}
	}
	return out
}

// Begin begins a transaction. It waits while as many are under way as there are threads, and while Resync copies its last piece.
func (r *Region) Begin() (*Tx, error) {
	t, err := r.take()
	if err != nil {
		return nil, err
	}
	t.begin()
	return t, nil
}

func (r *Region) take() (*Tx, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.stopped == nil && (r.quiet || len(r.free) == 0) {
		if err := r.wait(); err != nil {
			return nil, err
		}
	}
	if r.stopped != nil {
		return nil, r.stopped
	}
	t := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	return t, nil
}

// finish takes a transaction back.
func (r *Region) finish(t *Tx) {
	r.mu.Lock()
	r.free = append(r.free, t)
	r.mu.Unlock()
	r.changed.Broadcast() // one may wait for all of them, and others for any
}

// quiesce waits until no transaction is under way, and lets none begin until resume.
func (r *Region) quiesce() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.quiet && r.stopped == nil {
		if err := r.wait(); err != nil {
			return err
		}
	}
	r.quiet = true
	for len(r.free) < len(r.all) {
		if err := r.wait(); err != nil {
			return err
		}
	}
	return r.stopped
}

// wait waits for a change, under mu. An error: where time is simulated, none will come.
func (r *Region) wait() error {
	if r.opts.Idle == nil {
		r.changed.Wait()
		return nil
	}
	r.mu.Unlock()
	defer r.mu.Lock()
	return r.opts.Idle()
}

func (r *Region) resume() {
	r.mu.Lock()
	r.quiet = false
	r.mu.Unlock()
	r.changed.Broadcast()
}

// Close waits for the transactions under way, and for a Resync (whose context ends it), marks every copy that follows as closed
// orderly, and lets go of the mirrors. The memory and the endpoint stay the caller's. An error says that a mirror was lost meanwhile; what was committed is safe.
func (r *Region) Close() error {
	r.peersMu.Lock()
	defer r.peersMu.Unlock()
	err := r.quiesce()
	if errors.Is(err, ErrClosed) {
		return err
	}
	if err == nil {
		clean := r.label.State
		clean.Condition = Clean
		for _, p := range r.peers {
			if p.lost.Load() == nil {
				err = errors.Join(err, p.setState(r, clean))
			}
		}
		if err == nil {
			r.label.State = clean
			clean.store(r.mem)
		}
	}
	r.mu.Lock()
	r.stopped = ErrClosed
	r.mu.Unlock()
	r.resume()
	return errors.Join(err, r.release())
}

// release lets go of what Open acquired.
func (r *Region) release() error {
	var errs []error
	for _, p := range r.peers {
		p.hangUp()
	}
	for _, t := range r.all {
		errs = append(errs, t.close())
	}
	if r.whole != 0 {
		errs = append(errs, revoke(r.ep, r.whole))
	}
	return errors.Join(errs...)
}

// lose is told that the mirror is gone, by the transaction that found out. It returns nil if the region may go on: then
// the copies that are left begin a generation, so that the lost one is known to be old.
func (r *Region) lose(p *peer, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := cause
	if !errors.Is(err, ErrLost) {
		err = fmt.Errorf("%w: %s: %w", ErrLost, p.addr, cause)
	}
	if !p.lost.CompareAndSwap(nil, &err) {
		if r.opts.OnLoss == GoOn {
			return r.stopped
		}
		return err
	}
	p.at = r.label.State
	r.lost.Add(1)
	if r.opts.OnLoss != GoOn {
		if r.stopped == nil {
			r.stopped = fmt.Errorf("%w; the region has stopped, what was committed is safe here: open it again with mirrors that can be reached", err)
		}
		r.changed.Broadcast()
		return err
	}
	next, gerr := r.label.State.next()
	if gerr != nil { // the lost mirror could not be told from those that are left
		if r.stopped == nil {
			r.stopped = fmt.Errorf("%w; and the region cannot go on without it: %w", err, gerr)
		}
		r.changed.Broadcast()
		return r.stopped
	}
	r.label.State = next
	next.store(r.mem)
	return nil
}

// why is why the region has stopped; nil: it has not.
func (r *Region) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

// revoke withdraws a key under which only this process works.
func revoke(ep fabric.Endpoint, key fabric.Key) error {
	err := ep.Revoke(key)
	for errors.Is(err, fabric.ErrInFlight) {
		err = ep.Revoke(key)
	}
	return err
}

// newSession draws the name of a primary's use of a mirror.
func newSession() (id ID, err error) {
	_, err = rand.Read(id[:])
	return id, err
}
