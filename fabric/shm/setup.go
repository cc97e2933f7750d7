package shm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

// Setting up a connection, over the unix socket:
//
//	both        mutual proof of the secret (package handshake)
//	dialing     its offer and hello; a byte that carries its eventfd
//	accepting   its offer and answer, or a refusal; a byte that carries its eventfd
//
// Each side has taken a line in its own control file before it sends the offer of it. The socket stays open and silent:
// its end is how the other side learns of the end.

// offer is one side's way in. On the wire: seven words and the length of dir, little-endian, then dir, then the caller's
// hello or answer.
type offer struct {
	start   uint64   // start time of the process, which proves that its number (from the socket) is still its own
	line    uint64   // index
	gen     uint64   // of the line
	control identity // of the control file
	inbox   identity
	dir     string // absolute path of the folder

	doorbell int // eventfd, which comes beside the bytes
}

const (
	offerWords = 7
	maxPath    = 4096
	maxOffer   = offerWords*8 + 2 + maxPath
)

func (o *offer) encode(rest []byte) []byte {
	b := make([]byte, 0, maxOffer+len(rest))
	for _, w := range []uint64{o.start, o.line, o.gen, o.control.dev, o.control.ino, o.inbox.dev, o.inbox.ino} {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(o.dir)))
	return append(append(b, o.dir...), rest...)
}

var errOffer = errors.New("malformed offer of a connection")

func decodeOffer(b []byte) (o offer, rest []byte, err error) {
	var w [offerWords]uint64
	if len(b) < len(w)*8+2 {
		return o, nil, fmt.Errorf("%w: %d bytes", errOffer, len(b))
	}
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	b = b[len(w)*8:]
	n := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; n > maxPath || n > len(b) {
		return o, nil, fmt.Errorf("%w: a path of %d bytes", errOffer, n)
	}
	o = offer{w[0], w[1], w[2], identity{w[3], w[4]}, identity{w[5], w[6]}, string(b[:n]), -1}
	if o.line >= lines || !filepath.IsAbs(o.dir) || strings.ContainsRune(o.dir, 0) {
		return offer{}, nil, fmt.Errorf("%w: line %d in %q", errOffer, o.line, o.dir)
	}
	if rest = b[n:]; len(rest) > handshake.MaxBlob {
		return offer{}, nil, fmt.Errorf("%w: %d bytes behind it, at most %d", errOffer, len(rest), handshake.MaxBlob)
	}
	return o, rest, nil
}

// Dial implements [fabric.Endpoint]. It waits until the peer accepts or ctx ends.
func (e *Endpoint) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	if len(hello) > handshake.MaxBlob {
		return nil, nil, fmt.Errorf("shm: a hello of %d bytes, at most %d", len(hello), handshake.MaxBlob)
	}
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	sock, err := connect(ctx, addr)
	if err != nil {
		return nil, nil, fmt.Errorf("shm: dial %s: %w", addr, cause(ctx, err))
	}
	limited := handshake.Limit(ctx, sock, 0)
	c, answer, err := e.dial(sock, hello)
	if late := limited(); late != nil && err == nil {
		err = late
	}
	if err == nil {
		err = c.watch()
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		sock.Close()
		return nil, nil, fmt.Errorf("shm: dial %s: %w", addr, cause(ctx, err))
	}
	return c, answer, nil
}

func (e *Endpoint) dial(sock *net.UnixConn, hello []byte) (*conn, []byte, error) {
	if err := handshake.Dial(sock, e.secret); err != nil {
		return nil, nil, err
	}
	c, err := e.newConn(sock)
	if err != nil {
		return nil, nil, err
	}
	if err := c.sendOffer(hello); err != nil {
		return c, nil, err
	}
	theirs, answer, err := receiveOffer(sock)
	if err != nil {
		return c, nil, err
	}
	return c, answer, c.attach(theirs)
}

// Accept implements [fabric.Endpoint]. A process that connected and then failed to become a connection (another secret,
// too slow, refused by answer) is an error too; the endpoint goes on, and so should a caller that serves many. The end
// of the endpoint is ErrClosed.
func (e *Endpoint) Accept(ctx context.Context, answer func(hello []byte) ([]byte, error)) (fabric.Conn, error) {
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var sock *net.UnixConn
	select {
	case sock = <-e.sockets:
	case <-ctx.Done():
		return nil, fmt.Errorf("shm: accept: %w", context.Cause(ctx))
	}
	limited := handshake.Limit(ctx, sock, setupLimit)
	c, err := e.accept(sock, answer)
	if late := limited(); late != nil && err == nil {
		err = late
	}
	if err == nil {
		err = c.watch()
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		sock.Close()
		return nil, fmt.Errorf("shm: accept: %w", cause(ctx, err))
	}
	return c, nil
}

func (e *Endpoint) accept(sock *net.UnixConn, answer func([]byte) ([]byte, error)) (*conn, error) {
	if err := handshake.Accept(sock, e.secret); err != nil {
		return nil, err
	}
	c, reply, err := e.consider(sock, answer)
	if err != nil {
		handshake.WriteRefusal(sock, err)
		return c, err
	}
	return c, c.sendOffer(reply)
}

// consider does what may end in a refusal. The offer is read first: the dialing side reads after it has written.
func (e *Endpoint) consider(sock *net.UnixConn, answer func([]byte) ([]byte, error)) (*conn, []byte, error) {
	theirs, hello, err := receiveOffer(sock)
	if err != nil {
		return nil, nil, err
	}
	c, err := e.newConn(sock)
	if err != nil {
		unix.Close(theirs.doorbell)
		return nil, nil, err
	}
	if err := c.attach(theirs); err != nil {
		return c, nil, err
	}
	reply, err := answer(hello)
	if err == nil && len(reply) > handshake.MaxBlob {
		err = fmt.Errorf("shm: an answer of %d bytes, at most %d", len(reply), handshake.MaxBlob)
	}
	return c, reply, err
}

// begin ties a setup to the life of the endpoint.
func (e *Endpoint) begin(ctx context.Context) (context.Context, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, fabric.ErrClosed
	}
	e.setups.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.life, func() { cancel(fabric.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		e.setups.Done()
	}, nil
}

// cause is why ctx ended, if that is what made err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func connect(ctx context.Context, addr string) (*net.UnixConn, error) {
	folder, err := os.OpenFile(addr, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	var dialer net.Dialer
	sock, err := dialer.DialContext(ctx, "unix", viaFolder(folder))
	if err != nil {
		return nil, err
	}
	return sock.(*net.UnixConn), nil
}

// newConn is a connection to whoever is at the other end of sock, with a line of its own.
func (e *Endpoint) newConn(sock *net.UnixConn) (*conn, error) {
	c := &conn{
		fenceless: barriers(),
		ep:        e,
		sock:      sock,
		files:     map[string]*pmem.File{},
		queue:     queue{ring: make([]waiting, queueDepth)},
		receives:  receives{ring: make([]fabric.Op, recvDepth)},
		done:      completions{ring: make([]fabric.Completion, queueDepth+recvDepth)},
	}
	c.peer.bell.fd = -1
	pid, err := peerPID(sock)
	if err != nil {
		return nil, err
	}
	if c.who, err = processOf(pid); err != nil {
		return nil, err
	}
	e.setup.Lock()
	defer e.setup.Unlock()
	if err := e.takeLine(c); err != nil {
		return nil, err
	}
	return c, nil
}

// peerPID is the process that connected, or that listens.
func peerPID(sock *net.UnixConn) (int, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		err = e
	}
	if err != nil {
		return 0, fmt.Errorf("the peer's process: %w", err)
	}
	if cred.Pid <= 0 {
		return 0, errors.New("the peer's process is not visible from here: another PID namespace?")
	}
	return int(cred.Pid), nil
}

func (c *conn) sendOffer(rest []byte) error {
	o := offer{start: c.ep.self.start, line: uint64(c.index), gen: c.gen, dir: c.ep.dir}
	var err error
	if o.control, err = identityOf(c.ep.file.File()); err != nil {
		return err
	}
	if o.inbox, err = identityOf(c.in.file.File()); err != nil {
		return err
	}
	if err := handshake.WriteBlob(c.sock, o.encode(rest)); err != nil {
		return err
	}
	_, _, err = c.sock.WriteMsgUnix([]byte{0}, unix.UnixRights(c.ep.bell.fd), nil)
	return err
}

// receiveOffer is the other half of sendOffer. The doorbell is the caller's.
func receiveOffer(sock *net.UnixConn) (o offer, rest []byte, err error) {
	b, err := handshake.ReadBlob(sock, maxOffer+handshake.MaxBlob)
	if err != nil {
		return o, nil, err
	}
	if o, rest, err = decodeOffer(b); err != nil {
		return o, nil, err
	}
	o.doorbell, err = readEventfd(sock)
	return o, rest, err
}

// readEventfd takes the descriptor that comes with the next byte.
func readEventfd(sock *net.UnixConn) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*4)) // room to see, and close, more than the one that is expected
	n, oobn, _, _, err := sock.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return -1, fmt.Errorf("the peer's doorbell: %w", err)
	}
	var fds []int
	if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for i := range messages {
			more, _ := unix.ParseUnixRights(&messages[i])
			fds = append(fds, more...)
		}
	}
	if n == 1 && len(fds) == 1 {
		// A write to anything else might block or do harm.
		if what, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fds[0])); err == nil && what == "anon_inode:[eventfd]" {
			return fds[0], nil
		}
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return -1, errors.New("the peer sent no doorbell")
}

// attach maps the peer's files and checks that they are what it offered. The offer's doorbell is c's from here on.
func (c *conn) attach(o offer) error {
	c.peer.bell.fd = o.doorbell
	if o.start != c.who.start {
		return fmt.Errorf("%v started at %d, its offer says %d", c.who, c.who.start, o.start)
	}
	file, err := openShared(filepath.Join(o.dir, controlName), o.control, pmem.FileShared)
	if err != nil {
		return err
	}
	c.peer.dir, c.peer.file, c.peer.control, c.peer.gen = o.dir, file, controlOf(file), o.gen
	inbox, err := openShared(filepath.Join(o.dir, inboxName(int(o.line))), o.inbox, pmem.FileShared)
	if err != nil {
		return err
	}
	c.peer.out.file = inbox
	if size := len(inbox.Bytes()); uint64(size) != inboxSize {
		return fmt.Errorf("%s has %d bytes, expected %d", inbox.Name(), size, inboxSize)
	}
	c.peer.out = newInbox(inbox)
	var wrong error
	fault := pmem.Guard(func() {
		if wrong = checkControl(file); wrong != nil {
			return
		}
		c.peer.line, c.peer.bell.words = &c.peer.control.lines[o.line], &c.peer.control.doorbell
		c.busy = c.peer.line.busy.Load()
		l := c.peer.line
		if owner := (process{int(l.pid.Load()), l.start.Load()}); l.gen.Load() != o.gen || !odd(o.gen) || odd(c.busy) || owner != c.ep.self {
			wrong = fmt.Errorf("line %d of %s is not ours: generation %d, offered %d, for %v", o.line, file.Name(), l.gen.Load(), o.gen, owner)
		}
	})
	return errors.Join(fault, wrong)
}
