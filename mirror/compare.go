package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"whale/fabric"
	"whale/pmem"
)

// compare reads the mirror's copy. An error that is ErrRestarted: it is not the primary's.
func (p *peer) compare(ctx context.Context, r *Region) (err error) {
	into, err := pmem.Anonymous(copyChunk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	key, err := r.ep.Register(into, 0, copyChunk, fabric.LocalOnly)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(revoke(r.ep, key), err) }()
	l, size := p.control, r.label.Size
	for off := uint64(HeadSize); off < size; off += copyChunk {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("mirror: %s was not compared: %w", p.addr, err)
		}
		n, serial := min(copyChunk, size-off), l.done+1
		l.last(fabric.Op{Kind: fabric.Read, Local: fabric.Span{Key: key}, Remote: fabric.Addr{Key: l.key, Off: off}, Len: n}, serial)
		l.post()
		if l.await(serial); l.err != nil {
			return fmt.Errorf("%w: %s: %w", ErrLost, p.addr, l.err)
		}
		here := r.mem.Bytes()[off : off+n]
		if there := into.Bytes()[:n]; !bytes.Equal(here, there) {
			at := off
			for here[at-off] == there[at-off] {
				at++
			}
			return fmt.Errorf("%w: it is in a plain file, and what %s holds of the same generation differs at %d of %d bytes; nothing was changed: open the mirror's copy as the primary's, or set Options.Trust if this one is known to have everything",
				ErrRestarted, p.addr, at, size)
		}
	}
	return nil
}
