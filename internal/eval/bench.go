//go:build linux

package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Bench measures cells at given addresses.
type Bench struct {
	Addrs    []string
	TLS      *TLS   // nil: none
	Cells    []Cell // in order; the key space is filled again whenever the size of a value changes
	Keys     int
	Duration time.Duration // of a cell, without its warm-up; 0: Count bounds it
	Count    uint64        // operations of a cell, with its warm-up; 0: Duration bounds it
	Warmup   time.Duration
	Replicas int // SET+WAIT
	Workers  int
	Seed     uint64
	NoFill   bool      // every key of the key space is there already, with a value of the right size
	Progress Progress  // may be nil
	Notes    io.Writer // who is talked to, and what is being done
}

// Progress shows how far things are.
type Progress interface {
	Step(name string, step, of int) // what runs now, counted from 0
	Part(part float64)              // how much of it is done, 0 to 1
}

// Run measures all cells. Rows measured before an error are returned with it. Wrong replies make it fail, but only after
// the last cell.
func (b *Bench) Run(ctx context.Context) ([]Row, error) {
	if len(b.Addrs) == 0 {
		return nil, errors.New("no address to drive")
	}
	fillAddr := ""
	for _, addr := range b.Addrs {
		id, err := Identify(addr, b.TLS)
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(b.Notes, id)
		if fillAddr == "" && (id.Primary() || id.Name == "whale") {
			fillAddr = addr
		}
	}
	if fillAddr == "" && !b.NoFill {
		return nil, errors.New("no address takes writes, so the keys cannot be filled in: add the primary's address, or say --no-fill")
	}
	where := b.Addrs[0]
	if len(b.Addrs) > 1 {
		where = fmt.Sprintf("%d servers", len(b.Addrs))
	}
	var rows []Row
	var wrong error
	value := 0
	for i, cell := range b.Cells {
		if b.Progress != nil {
			b.Progress.Step(cell.String(), i, len(b.Cells))
		}
		if cell.Value != value && !b.NoFill {
			if err := fill(ctx, b.TLS, fillAddr, b.Addrs, b.Keys, cell.Value); err != nil {
				return rows, err
			}
			value = cell.Value
		}
		res, err := b.load(cell).Run(ctx)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", cell, err)
		}
		rows = append(rows, Row{Where: where, Cell: cell, Sample: SampleOf(res)})
		wrong = errors.Join(wrong, res.Err())
	}
	return rows, wrong
}

func (b *Bench) load(c Cell) Load {
	l := Load{
		Addrs: b.Addrs, TLS: b.TLS, Op: c.Op, Conns: c.Conns, Pipeline: c.Pipeline, Value: c.Value, Keys: b.Keys, Duration: b.Duration, Count: b.Count,
		Warmup: b.Warmup, Replicas: b.Replicas, Workers: b.Workers, Seed: b.Seed,
	}
	if b.Progress != nil {
		l.Progress = b.Progress.Part
	}
	return l
}

// fill sets every key of the key space at addr, and waits until the last one is there at every one of readers.
func fill(ctx context.Context, t *TLS, addr string, readers []string, keys, value int) error {
	res, err := Load{
		Addrs: []string{addr}, TLS: t, Op: Set, Conns: 4, Pipeline: 16, Value: value, Keys: keys, Count: uint64(keys), InOrder: true, Workers: 1,
	}.Run(ctx)
	if err == nil {
		err = res.Err()
	}
	if err != nil {
		return fmt.Errorf("filling %d keys of %s: %w", keys, bytesText(uint64(value)), err)
	}
	key := fmt.Sprintf("key:%012d", keys-1)
	for _, r := range readers {
		if err := await(ctx, 30*time.Second, func() error {
			c, err := dialControl(r, t)
			if err != nil {
				return err
			}
			defer c.close()
			if n, err := c.do("EXISTS", key); err != nil || n != "1" {
				return fmt.Errorf("%s does not have the last of the keys set at %s: EXISTS says %s %v", r, addr, n, err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// await tries until ok returns nil, at most for d; then its last error is returned.
func await(ctx context.Context, d time.Duration, ok func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", d, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
