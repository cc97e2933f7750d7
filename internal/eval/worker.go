//go:build linux

package eval

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"whale/internal/poller"
	"whale/internal/tlsconn"
)

// worker is one event loop: one goroutine, one epoll instance, its share of the connections, no allocation once it runs.
type worker struct {
	*run
	poll   *poller.Poller
	conns  map[int]*conn // by descriptor
	events []poller.Event
	keys   keys
	sealed []byte // with TLS: to read to what is still encrypted, on all connections
	busy   int    // connections with a batch outstanding

	measuring bool  // the warm-up is over
	measured  int64 // since when
	last      int64 // when the last reply came
	ops       uint64
	hist      *hdrhistogram.Histogram
	errors    map[string]uint64
}

func newWorker(r *run, index int) (*worker, error) {
	w := &worker{run: r, conns: map[int]*conn{}, hist: newHistogram(), errors: map[string]uint64{}}
	w.keys = newKeys(r.Keys, r.Seed, index, r.InOrder, r.Workers)
	if r.TLS != nil {
		w.sealed = make([]byte, tlsconn.Scratch)
	}
	var err error
	if w.poll, err = poller.New(256); err != nil {
		return nil, err
	}
	for i := index; i < r.Conns; i += r.Workers {
		c, err := dial(r, r.Addrs[i%len(r.Addrs)])
		if err == nil {
			w.conns[c.fd] = c
			err = w.poll.Add(c.fd, poller.Readable)
		}
		if err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *worker) close() {
	for _, c := range w.conns {
		c.close()
	}
	w.poll.Close()
}

// loop runs until the bounds are reached and everything that was sent is answered.
func (w *worker) loop() error {
	now := w.now()
	for _, c := range w.conns {
		if err := w.next(c, now); err != nil {
			return err
		}
	}
	w.last = now
	heard := now
	for w.busy > 0 {
		var err error
		if w.events, err = w.poll.Wait(w.events[:0], 100*time.Millisecond); err != nil {
			return err
		}
		if w.abort.Load() {
			return nil
		}
		if len(w.events) == 0 {
			if w.now()-heard > int64(w.Stall) {
				return w.stalled()
			}
			continue
		}
		for _, e := range w.events {
			c := w.conns[e.FD]
			if e.Writable {
				if err := w.flush(c); err != nil {
					return err
				}
			}
			for more := e.Readable; more; more = c.session != nil && c.session.More() {
				if err := w.receive(c); err != nil {
					return err
				}
			}
		}
		heard = w.last
	}
	return nil
}

func (w *worker) stalled() error {
	for _, c := range w.conns {
		if c.left > 0 {
			return fmt.Errorf("%s: no reply for %v to %s (%d connections wait; this one for %d replies)", c.addr, w.Stall, w.Op, w.busy, c.left)
		}
	}
	return fmt.Errorf("no reply for %v", w.Stall)
}

// next sends another batch on c, unless the run is over.
func (w *worker) next(c *conn, now int64) error {
	sent := w.sent.Load()
	if !w.measuring && (now >= int64(w.Warmup) || w.Count > 0 && sent >= w.Count/5) {
		w.measuring, w.measured = true, now
	}
	if w.Duration > 0 && now >= int64(w.Warmup+w.Duration) {
		return nil
	}
	if n := uint64(w.Pipeline); w.Count > 0 && w.sent.Add(n) > w.Count+n-1 {
		return nil
	}
	for _, at := range c.keyAt {
		w.keys.put(c.out[at : at+keyDigits])
	}
	c.sent, c.left, c.active = 0, c.replies, true
	c.counts = w.measuring
	c.started = w.now()
	w.busy++
	return w.flush(c)
}

// flush hands what is left of the batch to the socket.
func (w *worker) flush(c *conn) error {
	full, err := c.write()
	if err != nil || full == c.full {
		return err
	}
	c.full = full
	if full {
		return w.poll.Modify(c.fd, poller.Readable|poller.Writable)
	}
	return w.poll.Modify(c.fd, poller.Readable)
}

// receive takes what has come on c, and sends the next batch when all of this one is answered.
func (w *worker) receive(c *conn) error {
	if err := c.read(w.sealed); err != nil {
		return err
	}
	now := w.now()
	n, err := c.parse(w)
	if err != nil {
		return err
	}
	if n > 0 {
		w.last = now
		w.done.Add(uint64(n))
		if c.counts {
			w.ops += uint64(n)
			w.hist.RecordValues(min(now-c.started, int64(time.Minute)), int64(n))
		}
	}
	if c.left == 0 && c.active {
		c.active = false
		w.busy--
		return w.next(c, now)
	}
	return nil
}

// wrong notes a reply that is not what its request must get. The number of different texts is bounded: a server may put
// something new into each.
func (w *worker) wrong(text string) {
	if _, known := w.errors[text]; !known && len(w.errors) >= 20 {
		text = "(other texts)"
	}
	w.errors[text]++
}
