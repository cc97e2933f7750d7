//go:build linux

package eval

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"whale/internal/poller"
	"whale/internal/resp"
	"whale/internal/tlsconn"
)

const keyDigits = 12

// conn is one connection: a raw non-blocking socket, and a batch encoded once of which only the keys' digits change.
type conn struct {
	fd      int
	addr    string
	tls     *TLS          // nil: none
	session *tlsconn.Conn // with TLS, what lies on the socket
	op      Op
	batch   int // requests of one batch, the WAIT not counted
	enough  int // SetWait: copies
	out     []byte
	keyAt   []int // where in out the digits of each key are
	replies int   // to one batch
	sent    int   // bytes of out that the socket has taken
	full    bool  // the socket took no more: waiting for Writable

	in   []byte
	have int // bytes of in that are filled

	want    []byte // how a right reply begins
	wantLen int

	active  bool
	left    int   // replies still to come
	started int64 // when the batch was handed to the socket
	counts  bool  // it was sent after the warm-up
}

func dial(r *run, addr string) (*conn, error) {
	fd, err := connect(addr)
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd, addr: addr, tls: r.TLS, op: r.Op, batch: r.Pipeline, replies: r.Pipeline, enough: r.Replicas}
	if c.tls != nil {
		if c.session, err = c.tls.handshake(fd, addr); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	value := make([]byte, r.Value)
	rng := rand.New(rand.NewPCG(r.Seed, 1))
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	key := []byte("key:000000000000")
	for range r.Pipeline {
		at := len(c.out)
		if r.Op == Get {
			c.out = resp.AppendCommand(c.out, []byte("GET"), key)
		} else {
			c.out = resp.AppendCommand(c.out, []byte("SET"), key, value)
		}
		c.keyAt = append(c.keyAt, at+bytes.Index(c.out[at:], key)+KeySize-keyDigits)
	}
	if r.Op == SetWait {
		c.out = resp.AppendCommand(c.out, "WAIT", strconv.Itoa(r.Replicas), "0")
		c.replies++
	}
	c.want = []byte("+OK\r\n")
	c.wantLen = len(c.want)
	if r.Op == Get {
		c.want = fmt.Appendf(nil, "$%d\r\n", r.Value)
		c.wantLen = len(c.want) + r.Value + 2
	}
	c.in = make([]byte, min(c.wantLen*r.Pipeline+4096, 1<<20))
	return c, nil
}

// connect makes a connected, non-blocking TCP socket without Nagle's delay.
func connect(addr string) (int, error) {
	tcp, err := net.DialTimeout("tcp", addr, dialLimit)
	if err != nil {
		return -1, err
	}
	defer tcp.Close()
	raw, err := tcp.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	// The copy of the descriptor leaves Go's network poller, which would otherwise be woken for each reply too.
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if dupErr != nil {
		return -1, fmt.Errorf("%s: duplicating the socket: %w", addr, dupErr)
	}
	return fd, nil
}

func (c *conn) close() {
	if c.session != nil {
		c.session.Farewell()
	}
	unix.Close(c.fd)
}

// send hands bytes to the socket, or to the TLS on it.
func (c *conn) send(b []byte) (int, error) {
	if c.session != nil {
		return c.session.Write(b)
	}
	return poller.Write(c.fd, b)
}

// failed is an error of the connection.
func (c *conn) failed(doing string, err error) error {
	if refused := c.tls.refusal(c.addr, err); refused != nil {
		return refused
	}
	return fmt.Errorf("%s: %s: %w", c.addr, doing, err)
}

// write hands over as much of the batch as the socket takes; full says that some is left.
func (c *conn) write() (full bool, err error) {
	for c.sent < len(c.out) {
		n, err := c.send(c.out[c.sent:])
		if err == unix.EAGAIN {
			return true, nil
		}
		if err != nil {
			return false, c.failed("write", err)
		}
		c.sent += n
	}
	if c.session == nil {
		return false, nil
	}
	if err := c.session.Flush(); err != nil && err != unix.EAGAIN {
		return false, c.failed("write", err)
	}
	return c.session.Unsent() > 0, nil
}

// read takes what has come, as far as there is room. Of the rest the poller tells, or with TLS session.More. scratch is
// for TLS.
func (c *conn) read(scratch []byte) error {
	if c.have == len(c.in) {
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	var n int
	var err error
	if c.session != nil {
		n, err = c.session.Read(c.in[c.have:], scratch)
	} else {
		n, err = poller.Read(c.fd, c.in[c.have:])
	}
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil:
		return c.failed("read", err)
	case n == 0:
		return fmt.Errorf("%s closed the connection (%d replies to %s outstanding)", c.addr, c.left, c.op)
	}
	c.have += n
	return nil
}

// parse takes the complete replies off the buffer and returns how many operations they complete.
func (c *conn) parse(w *worker) (int, error) {
	ops, at := 0, 0
	for c.left > 0 {
		n, err := resp.SkipReply(c.in[at:c.have])
		if err != nil {
			return ops, fmt.Errorf("%s: %w", c.addr, err)
		}
		if n == 0 {
			break
		}
		reply := c.in[at : at+n]
		at += n
		c.left--
		switch {
		case c.op != SetWait:
			ops++
		case c.left == 0:
			ops += c.batch
			if k, err := strconv.Atoi(string(bytes.TrimSpace(reply[1:]))); reply[0] != ':' || err != nil || k < c.enough {
				w.wrong(fmt.Sprintf("WAIT %d 0: %s", c.enough, short(reply)))
			}
			continue
		}
		if n != c.wantLen || !bytes.HasPrefix(reply, c.want) {
			w.wrong(short(reply))
		}
	}
	if c.left == 0 && at < c.have {
		return ops, fmt.Errorf("%s: %d bytes more than the replies to the batch", c.addr, c.have-at)
	}
	copy(c.in, c.in[at:c.have])
	c.have -= at
	return ops, nil
}

// short is a reply for an error message.
func short(reply []byte) string {
	reply = bytes.TrimSpace(reply)
	if len(reply) > 120 {
		return fmt.Sprintf("%q... (%d bytes)", reply[:120], len(reply))
	}
	return fmt.Sprintf("%q", reply)
}

// keys draws keys.
type keys struct {
	rng   *rand.PCG
	space uint64
	order bool
	next  uint64
	step  uint64
}

func newKeys(space int, seed uint64, worker int, inOrder bool, workers int) keys {
	return keys{
		rng: rand.NewPCG(seed, uint64(worker)+100), space: uint64(space), order: inOrder, next: uint64(worker), step: uint64(workers),
	}
}

// put writes the digits of the next key.
func (k *keys) put(digits []byte) {
	var n uint64
	if k.order {
		n = k.next % k.space
		k.next += k.step
	} else {
		// The remainder favours small keys by less than space in 2^64.
		n = k.rng.Uint64() % k.space
	}
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
}
