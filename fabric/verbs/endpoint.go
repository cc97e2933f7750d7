//go:build verbs && cgo && linux

package verbs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

// Built says whether RDMA is in this program.
const Built = true

// Endpoint is a place on the fabric: an RDMA device and a TCP address. See [fabric.Endpoint] for who may call what.
type Endpoint struct {
	secret   []byte
	domain   pmem.Domain
	timeout  time.Duration
	dev      *device
	gid      gid
	link     uint8
	lid      uint16
	mtu      uint8
	message  uint64 // bytes of one work request at most
	features feature
	sendOps  uint32 // what queue pairs are made for; 0: the older way to post
	depth    int    // QueueDepth
	inline   int

	bell     *bell
	scratch  *block // words that peers READ for a Fence
	listener *net.TCPListener
	arrivals chan *arrival
	stranger chan struct{} // a place for each socket of which nothing is known yet
	life     context.Context
	end      context.CancelFunc
	tasks    sync.WaitGroup // goroutines of the listener and of Revoke
	dialer   func(ctx context.Context, addr string) (net.Conn, error)

	registrations atomic.Pointer[map[fabric.Key]*registration] // replaced under mu

	mu       sync.Mutex
	closed   bool
	serial   uint32
	setups   sync.WaitGroup // Dials and Accepts; added to under mu while not closed
	conns    map[*conn]struct{}
	scanning sync.Mutex // the owner looks at all completion queues; a queue is freed under it only
	polled   []*conn    // which
	gone     bool       // there is no device any more
}

var _ fabric.Endpoint = (*Endpoint)(nil)

// Open finds the device, listens, and makes the endpoint.
func Open(o Options) (fabric.Endpoint, error) {
	e, err := open(o, 0)
	if err != nil {
		return nil, err // and no Endpoint that is a nil pointer
	}
	return e, nil
}

// open: without are send operations to do without, for tests of what replaces them; ^0 is the older way to post.
func open(o Options, without uint32) (_ *Endpoint, err error) {
	if err := handshake.CheckSecret(o.Secret); err != nil {
		return nil, err
	}
	if o.PeerTimeout == 0 {
		o.PeerTimeout = DefaultPeerTimeout
	}
	if o.PeerTimeout < time.Second {
		return nil, fmt.Errorf("verbs: a peer timeout of %v; expected at least 1s", o.PeerTimeout)
	}
	addr, err := net.ResolveTCPAddr("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("verbs: listen address %q: %w; expected host:port", o.Listen, err)
	}
	var seed [4]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	e := &Endpoint{
		secret: append([]byte(nil), o.Secret...), domain: o.Domain, timeout: o.PeerTimeout,
		arrivals: make(chan *arrival), stranger: make(chan struct{}, maxStrangers),
		serial: binary.LittleEndian.Uint32(seed[:]), conns: map[*conn]struct{}{},
		dialer: func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	}
	e.registrations.Store(&map[fabric.Key]*registration{})
	e.life, e.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, e.release())
		}
	}()
	if e.dev, e.gid, err = findDevice(o.Device, addr); err != nil {
		return nil, err
	}
	if err = e.dev.use(); err != nil {
		return nil, err
	}
	if err = e.settle(o, without); err != nil {
		return nil, err
	}
	if e.bell, err = newBell(e.dev.channelFD()); err != nil {
		return nil, err
	}
	if e.scratch, err = e.dev.newBlock(unix.Getpagesize(), accessLocalWrite|accessRead); err != nil {
		return nil, err
	}
	if e.listener, err = net.ListenTCP("tcp", addr); err != nil {
		return nil, fmt.Errorf("verbs: %w", err)
	}
	if err = e.follow(); err != nil {
		e.listener.Close()
		return nil, err
	}
	e.tasks.Add(1)
	go e.acceptSockets()
	return e, nil
}

// follow ends all connections when the device fails: operations that it never completes would wait for ever.
func (e *Endpoint) follow() error {
	wait, stop, err := e.dev.follow()
	if err != nil {
		return fmt.Errorf("verbs: device %s: its events: %w", e.dev.name, err)
	}
	context.AfterFunc(e.life, stop)
	e.tasks.Go(func() {
		if failed := wait(); e.life.Err() == nil {
			e.severAll(failed)
		}
	})
	return nil
}

func (e *Endpoint) severAll(reason error) {
	e.mu.Lock()
	conns := maps.Clone(e.conns)
	e.mu.Unlock()
	for c := range conns {
		c.sever(reason)
	}
}

// settle decides what this end offers: it makes a queue pair, which is the only way to find out what the device takes.
func (e *Endpoint) settle(o Options, without uint32) error {
	p, err := e.dev.port(e.gid.port)
	if err != nil {
		return fmt.Errorf("verbs: device %s, port %d: %w", e.dev.name, e.gid.port, err)
	}
	e.link, e.lid, e.mtu, e.message = uint8(p.link), uint16(p.lid), uint8(p.mtu), uint64(p.max_message)
	if e.message == 0 {
		e.message = 1 << 30
	}
	e.features = capabilities(e.dev)
	if o.DirectWrite {
		e.features |= directWrite
	}
	// Two work requests an operation, at most, but for Writes and Reads of great length.
	most := min(int(e.dev.about.max_wr), int(e.dev.about.max_cqe)-receiveDepth)
	e.depth = min(maxDepth, (most-spareRequests)/2)
	if e.depth < 16 {
		return fmt.Errorf("verbs: device %s allows %d work requests a queue pair, expected at least %d", e.dev.name, most, 2*16+spareRequests)
	}
	if e.features&atomicWrite == 0 {
		without |= sendWrite8
	}
	if e.features&flushVisible == 0 {
		without |= sendFlush
	}
	if e.features&atomics == 0 {
		without |= sendAtomics
	}
	// The newest way first. What the device takes is told only by its refusals.
	for _, e.inline = range []int{maxInline, 0} {
		for _, ops := range []uint32{sendFlush | sendWrite8, sendWrite8, sendFlush, 0} {
			var q *queue
			if e.sendOps = (sendBasic | sendAtomics | ops) &^ without; without == ^uint32(0) {
				e.sendOps = 0
			}
			if q, err = e.newQueue(); err == nil {
				return q.free()
			}
			if e.sendOps == 0 {
				break
			}
		}
		e.sendOps = 0
		if q, qerr := e.newQueue(); qerr == nil {
			return q.free()
		}
	}
	return fmt.Errorf("verbs: device %s: no queue pair: %w (limits of locked memory, ulimit -l, are one cause)", e.dev.name, err)
}

// newQueue is a queue pair of this endpoint, initialized.
func (e *Endpoint) newQueue() (*queue, error) {
	q, err := e.dev.newQueue(2*e.depth+spareRequests, receiveDepth, e.inline, e.sendOps)
	if err != nil {
		return nil, err
	}
	access := uint32(accessLocalWrite | accessRead | accessWrite)
	if e.features&atomics != 0 {
		access |= accessAtomic
	}
	if e.features&flushVisible != 0 {
		access |= accessFlushVisible
	}
	if e.features&flushDurable != 0 {
		access |= accessFlushDurable
	}
	if err := q.init(e.gid.port, access); err != nil {
		q.free()
		return nil, err
	}
	return q, nil
}

// canSend is what this end can start, of what a peer may serve.
func (e *Endpoint) canSend() (f feature) {
	if e.sendOps&sendFlush != 0 {
		f |= flushVisible | flushDurable
	}
	if e.sendOps&sendWrite8 != 0 {
		f |= atomicWrite
	}
	if e.sendOps&sendAtomics != 0 || e.sendOps == 0 {
		f |= atomics
	}
	return f
}

// Addr is the address that this endpoint listens on, host:port.
func (e *Endpoint) Addr() string { return e.listener.Addr().String() }

// Arm implements [fabric.Endpoint].
func (e *Endpoint) Arm() bool {
	if !e.bell.arm() {
		return false
	}
	if e.look(true) {
		e.bell.consume()
		return false
	}
	return true
}

// Disarm implements [fabric.Endpoint].
func (e *Endpoint) Disarm() { e.bell.disarm() }

// Wait implements [fabric.Endpoint].
func (e *Endpoint) Wait(d time.Duration) {
	if e.bell.sleep(d) {
		e.look(false)
		e.bell.consume()
	}
}

// Doorbell is an epoll descriptor. It must not be used after Close.
func (e *Endpoint) Doorbell() int { return e.bell.fd }

// look takes in what the completion queues have, and says whether that was anything; then with arm the next completion
// makes an event. The order is that of ibv_get_cq_event(3): events that were announced are taken, the queue is armed, and
// looked at once more, for what came before it was.
func (e *Endpoint) look(arm bool) (found bool) {
	e.scanning.Lock()
	defer e.scanning.Unlock()
	if e.gone { // Close came while the owner was parked
		return false
	}
	stale := !arm
	for _, c := range e.polled {
		c.mu.Lock()
		found = c.drain() > 0 || found
		stale = stale || !c.severed && c.q.stale()
		c.mu.Unlock()
	}
	if stale {
		e.dev.takeEvents()
	}
	for _, c := range e.polled {
		c.mu.Lock()
		if arm && !c.severed {
			if err := c.q.arm(); err != nil {
				c.broken(fmt.Errorf("arming its completion queue: %w", err))
			}
		}
		found = c.drain() > 0 || found
		c.mu.Unlock()
	}
	return found
}

// Close implements [fabric.Endpoint]. An error that is ErrInFlight says that of the memory of a peer it is not known
// whether something still lands: see Conn.Close.
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
	errs := make([]error, len(conns), len(conns)+2)
	var closing sync.WaitGroup
	for i, c := range conns {
		closing.Go(func() { errs[i] = c.shut() })
	}
	closing.Wait()
	for key := range *e.registrations.Load() {
		e.Revoke(key)
	}
	e.tasks.Wait()
	e.bell.stop()
	return errors.Join(append(errs, e.release())...)
}

// release closes what open opened, as far as that went.
func (e *Endpoint) release() (err error) {
	e.end()
	if e.scratch != nil {
		err = errors.Join(err, e.scratch.free())
	}
	if e.bell != nil {
		e.bell.stop()
		err = errors.Join(err, e.bell.close())
	}
	e.scanning.Lock()
	defer e.scanning.Unlock()
	e.gone = true
	if e.dev != nil {
		err = errors.Join(err, e.dev.close())
	}
	return err
}

// block is memory of the provider's own that the device uses.
type block struct {
	memoryRegion
	mem []byte
}

func (d *device) newBlock(size int, access uint32) (*block, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	b := &block{mem: mem}
	if b.memoryRegion, err = d.register(uintptr(unsafe.Pointer(&mem[0])), uint64(size), b.addr(0), access); err != nil {
		unix.Munmap(mem)
		return nil, registrationError(uint64(size), err)
	}
	return b, nil
}

// addr is what the device calls the byte at off.
func (b *block) addr(off int) uint64 { return uint64(uintptr(unsafe.Pointer(&b.mem[off]))) }

func (b *block) free() error {
	if err := b.deregister(); err != nil {
		return fmt.Errorf("verbs: the device keeps %d bytes of the provider: %w", len(b.mem), err)
	}
	return unix.Munmap(b.mem)
}

// registrationError says what to do about the most frequent failure.
func registrationError(n uint64, err error) error {
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("verbs: registering %d bytes: %w: the memory is locked; raise the limit (ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit)", n, err)
	}
	return fmt.Errorf("verbs: registering %d bytes: %w", n, err)
}
