package mirror

import (
	"context"
	"errors"
	"fmt"

	"whale/fabric"
)

// A mirror's copy is made to be the primary's in pieces, in passes over the pages that it misses. A page is taken from what is dirty
// before it is copied, and what a transaction writes meanwhile makes it dirty again, after the store: nothing is missed. The mirror's label
// says all the time that its copy is of no use.

const (
	copyChunk = 256 << 10 // bytes of one write
	copyAhead = 8         // writes before the copier waits for them
	// lastPiece is how many bytes may be left for when transactions wait.
	lastPiece = 1 << 20
	// passes are how many the copier makes while transactions go on, and make pages dirty as fast perhaps as it can copy them.
	passes = 8
)

// filling is a copy under way.
type filling struct {
	p    *peer
	r    *Region
	done uint64 // bytes
}

// fill makes the mirror identical while no transaction is under way.
func (p *peer) fill(ctx context.Context, r *Region) error {
	f := filling{p: p, r: r}
	if err := f.begin(); err != nil {
		return err
	}
	if err := f.pass(ctx); err != nil {
		return err
	}
	return p.setBoot()
}

// begin marks the copy as unfinished.
func (f *filling) begin() error {
	if f.p.label.State.Condition == Blank {
		if err := f.p.putHead(f.r); err != nil {
			return err
		}
	}
	state := f.r.Label().State
	state.Condition = Filling
	return f.p.setState(f.r, state)
}

// pass copies what is dirty.
func (f *filling) pass(ctx context.Context) error {
	p, r := f.p, f.r
	l, size := p.control, r.label.Size
	for off, n := p.dirty.take(0, size, copyAhead*copyChunk); n > 0; off, n = p.dirty.take(off+n, size, copyAhead*copyChunk) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("mirror: %s was not filled: %w", p.addr, err)
		}
		for at := off; at < off+n; at += copyChunk {
			from, end := max(at, HeadSize), min(at+copyChunk, off+n) // the label is the mirror's own
			if end > from {
				l.ops = append(l.ops, fabric.Op{Kind: fabric.Write, Local: fabric.Span{Key: r.whole, Off: from},
					Remote: fabric.Addr{Key: l.key, Off: from}, Len: end - from})
			}
		}
		if err := p.flush(off, n); err != nil {
			return err
		}
		f.done += n
		if r.opts.Progress != nil {
			r.opts.Progress(p.addr, f.done, f.done+p.dirty.bytes(size))
		}
	}
	return nil
}

// Resync makes every lost mirror that can be reached again follow again. Transactions go on while it copies, and wait only for the last
// piece, about a megabyte (more if they write as fast as it copies). What is copied is what the mirror missed, if it is as it was when it
// was lost, and else, or with whole, everything: also when its machine was started again meanwhile and its memory survives only processes
// (a plain file), for what was acknowledged before may be missing there.
//
// An error tells of the mirrors that do not follow yet; the others do. A region that has stopped stays so: open it again.
func (r *Region) Resync(ctx context.Context, whole bool) error {
	r.peersMu.Lock()
	defer r.peersMu.Unlock()
	var errs []error
	for _, p := range r.peers {
		if err := r.why(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if p.lost.Load() == nil {
			continue
		}
		p.filling.Store(true)
		if err := p.comeBack(ctx, r, whole); err != nil {
			errs = append(errs, err)
			p.hangUp()
		}
		p.filling.Store(false)
	}
	return errors.Join(errs...)
}

// comeBack makes a lost mirror follow again.
func (p *peer) comeBack(ctx context.Context, r *Region, whole bool) (err error) {
	p.hangUp()
	if err := p.dial(ctx, r, r.Label().State); err != nil {
		return err
	}
	if whole || p.outlived || p.label.State != p.at {
		p.dirty.all(r.label.Size)
	}
	f := filling{p: p, r: r}
	if err := f.begin(); err != nil {
		return err
	}
	defer func() {
		if err != nil { // of what was taken some may not be there
			p.dirty.all(r.label.Size)
		}
	}()
	for n := range passes {
		if n > 0 && p.dirty.bytes(r.label.Size) <= lastPiece {
			break
		}
		if err := f.pass(ctx); err != nil {
			return err
		}
	}
	defer r.resume()
	if err := r.quiesce(); err != nil {
		return err
	}
	// Nobody has a connection of an earlier session: of those that noticed its end, what they had written is dirty.
	for _, t := range r.all {
		t.forget(p)
	}
	if err := p.last(ctx, r, &f); err != nil {
		for _, t := range r.all {
			t.forget(p)
		}
		return err
	}
	return nil
}

// last copies the last piece, and lets the mirror follow. No transaction is under way.
func (p *peer) last(ctx context.Context, r *Region, f *filling) error {
	if err := f.pass(ctx); err != nil {
		return err
	}
	if err := p.setBoot(); err != nil {
		return err
	}
	if err := p.follow(ctx, r); err != nil {
		return err
	}
	p.lost.Store(nil)
	r.lost.Add(-1)
	if err := r.begin(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if why := p.lost.Load(); why != nil {
		return *why
	}
	return nil
}
