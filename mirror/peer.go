package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"whale/fabric"
	"whale/pmem"
)

// peer is a mirror, as its primary knows it. All but lost and dirty is used while no transaction is under way.
type peer struct {
	addr    string
	session ID
	label   Label // when the session began
	control *link // of the session; nil: none
	// outlived: the mirror's machine was started again since its copy was written, and may have lost part of it.
	outlived bool
	boot     [2]uint64 // of its machine
	dirty    dirty
	lost     atomic.Pointer[error] // why it is lost; nil: it follows
	// at is the state in which it was when it was lost: whatever it missed since is dirty.
	at State
}

// unreachable is the error of a mirror that does not answer.
type unreachable struct {
	addr string
	err  error
}

func (u *unreachable) Error() string {
	return fmt.Sprintf("mirror: %s cannot be reached: %v; does it run `whale mirror serve`, with the same secret?", u.addr, u.err)
}

func (u *unreachable) Unwrap() error { return u.err }

// dial begins a session with the mirror, which is known to fit afterwards. was is the state of the primary's copy.
func (p *peer) dial(ctx context.Context, r *Region, was State) error {
	session, err := newSession()
	if err != nil {
		return err
	}
	p.session = session
	h := hello{kind: kindFirst, session: session, label: r.label}
	h.label.State = was
	l, a, err := p.connect(ctx, r, &h)
	if err != nil {
		return err
	}
	p.control, p.label, p.boot = l, a.label, a.boot
	p.outlived = a.label.outlived(a.domain, a.boot)
	return nil
}

// connect makes one connection.
func (p *peer) connect(ctx context.Context, r *Region, h *hello) (*link, *answer, error) {
	conn, b, err := r.ep.Dial(ctx, p.addr, h.encode())
	if err != nil {
		return nil, nil, &unreachable{p.addr, err}
	}
	var a answer
	if err = a.decode(b); err == nil && h.kind == kindFirst {
		err = fits(h.label, a.label)
	}
	if err == nil {
		err = able(conn.Caps(), r.opts.Strategy)
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("%s: %w", p.addr, err)
	}
	l := &link{r: r, peer: p, conn: conn, key: a.key, inline: uint64(conn.Caps().Inline), flags: writeFlags[r.opts.Strategy]}
	l.hurry(a.domain)
	return l, &a, nil
}

// able says why the strategy's promise would not be true over a connection.
func able(c fabric.Caps, s Strategy) error {
	switch {
	case c.Domain == pmem.None:
		return fmt.Errorf("mirror: %w: the mirror's memory survives nothing (%s): serve a mapped file, or declare its persistence domain", fabric.ErrUnsupported, c.Provider)
	case s == DDIODisabled && !c.NonTemporal:
		return fmt.Errorf("mirror: %w: strategy %v needs incoming writes to pass the mirror's caches by, and over %s they do not: use %v, or switch off DDIO there and declare it",
			fabric.ErrUnsupported, s, c.Provider, OrderedBuffering)
	}
	return nil
}

// fill makes the mirror identical, and has every transaction mirror to it; that it follows is left to be said (setState). No transaction
// is under way. Without copy they are identical already.
func (p *peer) fill(ctx context.Context, r *Region, copy bool) error {
	if copy {
		if err := p.copyDirty(ctx, r); err != nil {
			return err
		}
	}
	for _, t := range r.all {
		h := hello{kind: kindFurther, session: p.session, label: r.label}
		l, _, err := p.connect(ctx, r, &h)
		if err != nil {
			return err
		}
		t.direct = l.direct && (t.direct || len(t.links) == 0)
		t.links = append(t.links, l)
	}
	return nil
}

const (
	copyChunk = 256 << 10 // bytes of one write
	copyAhead = 8         // writes before the copier waits for them
)

// copyDirty copies what is dirty, marking the copy as unfinished meanwhile.
func (p *peer) copyDirty(ctx context.Context, r *Region) error {
	l, size := p.control, r.label.Size
	if p.label.State.Condition == Blank {
		if err := p.putHead(r); err != nil {
			return err
		}
	}
	filling := r.label.State
	filling.Condition = Filling
	if err := p.setState(r, filling); err != nil {
		return err
	}
	total, done := p.dirty.bytes(size), uint64(0)
	for off, n := p.dirty.next(0, size); n > 0; off, n = p.dirty.next(off+n, size) {
		for at := off; at < off+n; {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("mirror: %s was not filled: %w", p.addr, err)
			}
			first := at
			for range copyAhead {
				now := min(copyChunk, off+n-at)
				if now == 0 {
					break
				}
				from := max(at, HeadSize) // the label is the mirror's own
				if at+now > from {
					l.ops = append(l.ops, fabric.Op{Kind: fabric.Write, Local: fabric.Span{Key: r.whole, Off: from},
						Remote: fabric.Addr{Key: l.key, Off: from}, Len: at + now - from})
				}
				at += now
			}
			if err := p.flush(first, at-first); err != nil {
				return err
			}
			done += at - first
			if r.opts.Progress != nil {
				r.opts.Progress(p.addr, done, total)
			}
		}
	}
	return p.setBoot()
}

// setBoot says in the mirror's label since when its copy is whole.
func (p *peer) setBoot() error {
	l := p.control
	for i, v := range p.boot {
		l.ops = append(l.ops, fabric.Op{Kind: fabric.Write8, Remote: fabric.Addr{Key: l.key, Off: bootOff + 8*uint64(i)}, A: v})
	}
	return p.flush(bootOff, 16)
}

// putHead writes the label, but for its state, to a mirror that was never used.
func (p *peer) putHead(r *Region) error {
	p.control.ops = append(p.control.ops, fabric.Op{Kind: fabric.Write, Local: fabric.Span{Key: r.whole}, Remote: fabric.Addr{Key: p.control.key}, Len: labelEnd})
	return p.flush(0, labelEnd)
}

// setState puts a state into the mirror's label, durably.
func (p *peer) setState(r *Region, s State) error {
	l := p.control
	l.ops = append(l.ops, fabric.Op{Kind: fabric.Write8, Remote: fabric.Addr{Key: l.key, Off: stateOff}, A: s.word()})
	return p.flush(stateOff, 8)
}

// flush makes what the control connection has written to [off, off+n) durable, and waits.
func (p *peer) flush(off, n uint64) error {
	l := p.control
	serial := l.done + 1
	l.last(fabric.Op{Kind: fabric.Flush, A: fabric.Durable, Remote: fabric.Addr{Key: l.key, Off: off}, Len: n}, serial)
	l.post()
	l.await(serial)
	if l.err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLost, p.addr, l.err)
	}
	return nil
}

// hangUp ends the session from this side.
func (p *peer) hangUp() {
	if p.control != nil {
		p.control.conn.Close()
		p.control = nil
	}
}

// Resync makes every lost mirror that can be reached again follow again. It waits for the transactions under way and lets none begin
// until it has ended. What is copied is what the mirror missed, if it is as it was when it was lost, and else, or with
// whole, everything: also when its machine was started again meanwhile and its memory survives only processes (a plain file), for
// what was acknowledged before may be missing there.
//
// An error tells of the mirrors that do not follow yet; the others do. A region that has stopped stays so: open it again.
func (r *Region) Resync(ctx context.Context, whole bool) error {
	r.peersMu.Lock()
	defer r.peersMu.Unlock()
	if err := r.quiesce(); err != nil {
		r.resume()
		return err
	}
	defer r.resume()
	var errs []error
	for _, p := range r.peers {
		if p.lost.Load() == nil {
			continue
		}
		if err := p.comeBack(ctx, r, whole); err != nil {
			errs = append(errs, err)
			p.hangUp()
			for _, t := range r.all {
				t.forget(p)
			}
		}
	}
	return errors.Join(errs...)
}

// comeBack makes a lost mirror follow again.
func (p *peer) comeBack(ctx context.Context, r *Region, whole bool) error {
	for _, t := range r.all {
		t.forget(p)
	}
	p.hangUp()
	if err := p.dial(ctx, r, r.label.State); err != nil {
		return err
	}
	if whole || p.outlived || p.label.State != p.at {
		p.dirty.all()
	}
	if err := p.fill(ctx, r, true); err != nil {
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
