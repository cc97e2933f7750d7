package node

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"

	"whale/fabric"
)

// peers makes the connections to the other members: of each two, the member with the higher index dials. It dials again
// whenever the engine says that the connection was lost, with growing pauses while that fails.
type peers struct {
	endpoint fabric.Endpoint
	self     hello    // To is filled in for each member
	addrs    []string // of the members on the fabric
	secret   string   // where the secret is, for messages
	log      *slog.Logger
	deliver  func(*link)

	lost  []chan struct{} // by member
	tasks sync.WaitGroup
}

const (
	firstRedial = 10 * time.Millisecond
	lastRedial  = 500 * time.Millisecond
	dialLimit   = 10 * time.Second
	patience    = 3 * time.Second // members that start together miss each other at first: that is not worth a line
)

// start dials and accepts until ctx ends; wait for that with stop.
func (p *peers) start(ctx context.Context) {
	p.lost = make([]chan struct{}, len(p.addrs))
	for i := range p.self.From {
		p.lost[i] = make(chan struct{}, 1)
		p.tasks.Go(func() { p.dial(ctx, i) })
	}
	if p.self.From < len(p.addrs)-1 {
		p.tasks.Go(func() { p.accept(ctx) })
	}
}

func (p *peers) stop() { p.tasks.Wait() }

// redial says that the connection to a member was lost. Any goroutine.
func (p *peers) redial(member int) {
	if member >= p.self.From {
		return // the other side dials
	}
	select {
	case p.lost[member] <- struct{}{}:
	default:
	}
}

func (p *peers) dial(ctx context.Context, member int) {
	pause := firstRedial
	trouble := complaint{log: p.log, what: "cannot connect to another member", args: []any{"member", member, "address", p.addrs[member]}, since: time.Now()}
	for ctx.Err() == nil {
		link, err := p.dialOnce(ctx, member)
		if err != nil {
			if ctx.Err() == nil {
				trouble.report(p.explain(err))
			}
			sleep(ctx, pause)
			pause = min(2*pause, lastRedial)
			continue
		}
		trouble.over()
		p.deliver(link)
		select {
		case <-p.lost[member]:
		case <-ctx.Done():
		}
		pause = firstRedial
		trouble.since = time.Now()
	}
}

func (p *peers) dialOnce(ctx context.Context, member int) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	mine := p.self
	mine.To = member
	conn, answer, err := p.endpoint.Dial(ctx, p.addrs[member], mine.encode())
	if err != nil {
		return nil, err
	}
	theirs, err := decodeHello(answer)
	if err == nil {
		err = agree(&mine, &theirs, p.addrs, member)
	}
	if err != nil {
		conn.Close()
		return nil, &refusal{err}
	}
	return &link{member: member, redis: theirs.Redis, conn: conn}, nil
}

func (p *peers) accept(ctx context.Context) {
	trouble := complaint{log: p.log, what: "refused a connection of another process", since: time.Now()}
	for ctx.Err() == nil {
		var theirs hello
		conn, err := p.endpoint.Accept(ctx, func(b []byte) (_ []byte, err error) {
			if theirs, err = decodeHello(b); err != nil {
				return nil, &refusal{err}
			}
			mine := p.self
			mine.To = theirs.From
			if err := agree(&mine, &theirs, p.addrs, -1); err != nil {
				return nil, &refusal{err}
			}
			return mine.encode(), nil
		})
		if errors.Is(err, fabric.ErrClosed) || ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			trouble.report(p.explain(err))
			sleep(ctx, firstRedial) // a broken endpoint must not make this a busy loop
			continue
		}
		trouble.over()
		p.deliver(&link{member: theirs.From, redis: theirs.Redis, conn: conn})
	}
}

// refusal is an error that trying again does not mend, so it is told at once.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func (p *peers) explain(err error) error {
	if errors.Is(err, fabric.ErrAuth) {
		return &refusal{&secretError{path: p.secret, err: err}}
	}
	return err
}

type secretError struct {
	path string
	err  error
}

func (e *secretError) Error() string {
	return e.err.Error() + ": compare the secret file of both nodes; here it is " + e.path
}
func (e *secretError) Unwrap() error { return e.err }

// complaint logs a trouble that repeats: once for each different text (ports aside, of which a stranger has a new one each
// time), as far as it remembers them, and not while it is young.
type complaint struct {
	log   *slog.Logger
	what  string
	args  []any
	since time.Time
	said  []string // the latest
}

// remembered is how many texts a complaint remembers.
const remembered = 8

var ports = regexp.MustCompile(`:[0-9]+\b`)

func (c *complaint) report(err error) {
	text := err.Error()
	var now *refusal
	same := ports.ReplaceAllString(text, "")
	if slices.Contains(c.said, same) || time.Since(c.since) < patience && !errors.As(err, &now) {
		return
	}
	c.said = append(c.said, same)
	c.said = c.said[max(0, len(c.said)-remembered):]
	c.log.Warn(c.what, append([]any{"error", text}, c.args...)...)
}

func (c *complaint) over() {
	if len(c.said) > 0 {
		c.said = nil
		c.log.Info("connected after all", c.args...)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
