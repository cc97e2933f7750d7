package mirror

import (
	"context"
	"fmt"
	"sync/atomic"

	"whale/fabric"
	"whale/pmem"
)

// peer is a mirror, as its primary knows it. All but lost, filling, dirty and at belongs to who holds peersMu.
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
	filling  atomic.Bool           // Resync copies to it
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
	h := hello{kind: kindFirst, session: session, label: r.Label()}
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

// follow has every transaction mirror to it; that it follows is left to be said (setState). No transaction is under way.
func (p *peer) follow(ctx context.Context, r *Region) error {
	for _, t := range r.all {
		h := hello{kind: kindFurther, session: p.session, label: r.Label()}
		l, _, err := p.connect(ctx, r, &h)
		if err != nil {
			return err
		}
		t.direct = l.direct && (t.direct || len(t.links) == 0)
		t.links = append(t.links, l)
	}
	return nil
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

// setBoot says in the mirror's label since when its copy is whole.
func (p *peer) setBoot() error {
	l := p.control
	for i, v := range p.boot {
		l.ops = append(l.ops, fabric.Op{Kind: fabric.Write8, Remote: fabric.Addr{Key: l.key, Off: bootOff + 8*uint64(i)}, A: v})
	}
	return p.flush(bootOff, 16)
}
