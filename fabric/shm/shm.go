// Package shm is the provider of package fabric for processes of one machine: the memory of a peer is a file that the
// initiator maps, and an operation is a copy.
//
// The initiator does everything itself, inside Post and Poll: it checks the key, copies, executes atomics on the mapping
// and flushes. The peer's CPU takes no part; the peer may be stopped (SIGSTOP) and the operation completes. All that an
// endpoint does for its peers is in its folder:
//
//	fabric       the control file: doorbell, connection lines, key table (layout.go says who writes which word)
//	inbox.N      what the peer on line N has sent with Send
//	fabric.sock  a unix socket, for setting up connections, and, while one lives, for noticing its end
//
// # Revocation
//
// There is no network card here that would check a key, so the initiator and the owner of the memory share a rule, with
// one word for each connection, busy, in the owner's control file (odd while the initiator is inside):
//
//	initiator: busy odd, full fence, check generation and keys, copy, busy even
//	owner:     key := 0,  full fence, look at busy
//
// One of the two sees the other. The word counts, so the owner waits for the one period that it saw, not for a moment
// in which a busy connection happens to be idle; a period moves a bounded number of bytes. A process that has died
// (pidfd) is inside no more. The same rule, with a word in the process's own memory, covers this endpoint's own use of a
// key as Local.
//
// A peer that breaks the rule can write what it could map: shm keeps honest processes apart in time, it is no protection
// against a hostile process of the same user.
//
// # Durability
//
// A durable Flush persists through the initiator's own mapping. What Caps declares is FileShared: the bytes are in the
// pages of the file and survive every process. Memory whose owner declared ADR or EADR is flushed as these ask.
package shm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

const (
	controlName = "fabric"
	socketName  = "fabric.sock"

	// DefaultRevokeLimit is how long Open and Close wait for an operation under a withdrawn key.
	DefaultRevokeLimit = 5 * time.Second
	// setupLimit is how long a process that has connected to the socket may take to become a connection.
	setupLimit = 5 * time.Second
)

// Options configure an endpoint.
type Options struct {
	// Secret is the cluster's secret: at least 16 bytes, the same at every endpoint.
	Secret []byte
	// RevokeLimit bounds the wait for operations that are still landing in Open (of an earlier incarnation) and in Close.
	// 0: DefaultRevokeLimit.
	RevokeLimit time.Duration
}

// Endpoint is a place on the fabric, in a folder. See [fabric.Endpoint] for who may call what.
type Endpoint struct {
	dir     string
	secret  []byte
	limit   time.Duration
	self    process
	folder  *os.File // for the socket's path: see viaFolder
	file    *pmem.File
	control *control
	bell    *bell

	listener *net.UnixListener
	sockets  chan *net.UnixConn // accepted, not yet asked who they are
	life     context.Context    // ends with Close
	end      context.CancelFunc //
	tasks    sync.WaitGroup     // goroutines that touch control

	// locals are the registrations, by the index in their key. The hot path reads them without the lock.
	locals [keyEntries]atomic.Pointer[registration]

	// Lock order: setup, mu.
	setup   sync.Mutex // one connection takes a line at a time
	inboxes [lines]*pmem.File

	mu       sync.Mutex // never held over a system call that may block; also guards keys and lines in control
	closed   bool
	setups   sync.WaitGroup // Dials and Accepts; added to under mu while not closed
	conns    map[*conn]struct{}
	revoking map[fabric.Key][]period
}

var _ fabric.Endpoint = (*Endpoint)(nil)

// Open makes the endpoint of the folder dir, which is created if it is missing. An existing one is a new incarnation of
// the same endpoint: its earlier keys and connections are withdrawn, and Open returns only when nothing under them can
// land any more.
//
// Errors: another process has the endpoint open (named); an operation of an earlier incarnation is still inside after
// RevokeLimit (its process is named, and the error is ErrInFlight); files of another format.
func Open(dir string, options Options) (_ *Endpoint, err error) {
	if err := handshake.CheckSecret(options.Secret); err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	e := &Endpoint{
		dir:      dir,
		secret:   append([]byte(nil), options.Secret...),
		limit:    options.RevokeLimit,
		sockets:  make(chan *net.UnixConn),
		conns:    map[*conn]struct{}{},
		revoking: map[fabric.Key][]period{},
	}
	e.life, e.end = context.WithCancel(context.Background())
	if e.limit == 0 {
		e.limit = DefaultRevokeLimit
	}
	defer func() {
		if err != nil {
			e.release()
		}
	}()
	if e.self, err = processOf(os.Getpid()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	if e.folder, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	if err := e.openControl(); err != nil {
		return nil, err
	}
	if e.bell, err = newBell(&e.control.doorbell); err != nil {
		return nil, err
	}
	if err := e.listen(); err != nil {
		return nil, err
	}
	return e, nil
}

// listen binds the socket. The lock on the control file says that one found there is a dead one.
func (e *Endpoint) listen() error {
	path := filepath.Join(e.dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("shm: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: viaFolder(e.folder)})
	if err != nil {
		return fmt.Errorf("shm: listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	e.listener = l
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	e.tasks.Add(1)
	go e.acceptSockets()
	return nil
}

// viaFolder names the socket in an open folder. The path of a unix socket has at most 108 bytes, that of a folder 4096.
func viaFolder(folder *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), socketName)
}

// acceptSockets hands sockets to whoever is in Accept: a listener's deadline, unlike a channel, is one for all callers.
func (e *Endpoint) acceptSockets() {
	defer e.tasks.Done()
	for {
		s, err := e.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for one: the dialing side has its own limit
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-e.life.Done():
				return
			}
		}
		select {
		case e.sockets <- s:
		case <-e.life.Done():
			s.Close()
			return
		}
	}
}

// Addr is the absolute path of the folder.
func (e *Endpoint) Addr() string { return e.dir }

// Arm implements [fabric.Endpoint].
func (e *Endpoint) Arm() bool { return e.bell.arm() }

// Wait implements [fabric.Endpoint]. It parks the thread, not only the goroutine: waking up through Go's poller takes
// three times as long.
func (e *Endpoint) Wait(d time.Duration) { e.bell.wait(d) }

// Disarm implements [fabric.Endpoint].
func (e *Endpoint) Disarm() { e.bell.disarm() }

// Doorbell is an eventfd. It must not be used after Close.
func (e *Endpoint) Doorbell() int { return e.bell.fd }

// Close implements [fabric.Endpoint]. It waits, at most RevokeLimit, until nothing of any connection can land in the
// registered memory any more; if that did not come true the error is ErrInFlight and names the process that is inside.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.end()
	e.listener.Close()
	e.setups.Wait()
	e.mu.Lock()
	conns := slices.Collect(maps.Keys(e.conns))
	e.mu.Unlock()
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	errs = append(errs, e.withdraw())
	e.tasks.Wait()
	errs = append(errs, e.release())
	return errors.Join(errs...)
}

// release gives back what Open acquired, as far as it came. The lock goes last, with the control file.
func (e *Endpoint) release() error {
	var errs []error
	if e.listener != nil {
		e.listener.Close()
		e.tasks.Wait()
		errs = append(errs, os.Remove(filepath.Join(e.dir, socketName)))
	}
	if e.bell != nil {
		errs = append(errs, e.bell.close())
	}
	for _, inbox := range e.inboxes {
		if inbox != nil {
			errs = append(errs, inbox.Close())
		}
	}
	if e.folder != nil {
		errs = append(errs, e.folder.Close())
	}
	if e.file != nil {
		errs = append(errs, e.file.Close())
	}
	return errors.Join(errs...)
}
