//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// netnsInside tells a process of this test that it is in a network namespace of its own, and where the program is.
const netnsInside = "WHALE_E2E_INSIDE"

// TestAcrossHosts: three nodes in network namespaces of their own, which stand for three machines, behave as they do on
// one: a bridge and a veth pair for each connect them. A node is killed, and a link goes down and comes up again.
func TestAcrossHosts(t *testing.T) {
	if program := os.Getenv(netnsInside); program != "" {
		acrossHosts(t, program)
		return
	}
	if external != nil || testing.Short() {
		t.Skip("starts processes of its own")
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: install iproute2 and util-linux", err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAcrossHosts$", "-test.v")
	cmd.Env = append(os.Environ(), netnsInside+"="+binary, "WHALE_E2E_ADDRS=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 { // root of a user namespace may do it, too
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &ended):
		t.Skipf("network namespaces are not permitted here: %v", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, tail(string(out), 8000))
	case strings.Contains(string(out), "--- SKIP"):
		t.Skip(string(out))
	}
	t.Logf("%s", out)
}

// host is a namespace, held open by a process that does nothing, with one node.
type host struct {
	t    *testing.T
	pid  int
	addr string // of its only interface
	link string // the other end of it, at the bridge
	argv []string
	node *exec.Cmd
	log  *os.File
}

// command is one to be run here or, with a host, in its namespace.
func (h *host) command(argv ...string) *exec.Cmd {
	if h != nil {
		argv = append([]string{"nsenter", "-t", fmt.Sprint(h.pid), "-n"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (h *host) ip(args string) error {
	if out, err := h.command(append([]string{"ip"}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// plug makes the namespace and its cable.
func (h *host) plug() error {
	keeper := exec.Command("sleep", "infinity")
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := keeper.Start(); err != nil {
		return err
	}
	h.t.Cleanup(func() { keeper.Process.Kill(); keeper.Wait() })
	h.pid = keeper.Process.Pid
	var outside *host
	return errors.Join(
		outside.ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %d", h.link, h.pid)),
		outside.ip("link set "+h.link+" master br0 up"),
		h.ip("addr add "+h.addr+"/24 dev eth0"), h.ip("link set eth0 up"), h.ip("link set lo up"))
}

func (h *host) start() {
	h.t.Helper()
	h.node = h.command(h.argv...)
	h.node.Stdout, h.node.Stderr = h.log, h.log
	if err := h.node.Start(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) kill() {
	h.node.Process.Kill()
	h.node.Wait()
}

const patient = 30 * time.Second

func acrossHosts(t *testing.T, program string) {
	var outside *host
	if err := errors.Join(outside.ip("link add br0 type bridge"), outside.ip("addr add 10.77.0.254/24 dev br0"), outside.ip("link set br0 up"),
		outside.ip("link set lo up")); err != nil {
		t.Skipf("not permitted here: %v", err)
	}
	dir := memoryDir(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var peers, addrs []string
	for i := range nodes {
		peers = append(peers, fmt.Sprintf("10.77.0.%d:7101", i+1))
		addrs = append(addrs, fmt.Sprintf("10.77.0.%d:7001", i+1))
	}
	c := &cluster{t: t, addrs: addrs}
	var hosts []*host
	for i := range nodes {
		h := &host{t: t, addr: fmt.Sprintf("10.77.0.%d", i+1), link: fmt.Sprintf("port%d", i), log: log}
		h.argv = []string{program, "serve", "--fabric", "tcp", "--id", fmt.Sprint(i), "--peers", strings.Join(peers, ","), "--dir", filepath.Join(dir, fmt.Sprint(i)),
			"--listen", addrs[i], "--secret", secret, "--arena", "64MiB", "--insecure", "--timeout", "1s"}
		if err := h.plug(); err != nil {
			t.Fatal(err)
		}
		h.start()
		t.Cleanup(h.kill)
		hosts = append(hosts, h)
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("what the nodes printed:\n%s", tail(string(text), 6000))
		}
	})
	everywhere := func(what, value string) {
		t.Helper()
		for node := range nodes { // writes enter at each, and are read at all
			await(t, patient, func() error {
				got, err := c.once(node, "SET", "key", value+fmt.Sprint(node))
				if err == nil && got != "OK" {
					err = fmt.Errorf("SET at node %d: %s", node, got)
				}
				return err
			})
			for at := range nodes {
				var got string
				await(t, patient, func() (err error) { got, err = c.once(at, "GET", "key"); return err })
				if got != value+fmt.Sprint(node) {
					t.Errorf("%s: node %d has %q after a SET at node %d", what, at, got, node)
				}
			}
		}
	}
	everywhere("the cluster serves", "first ")
	for _, i := range []int{1, 0} {
		hosts[i].kill()
		hosts[i].start()
		everywhere(fmt.Sprintf("node %d is back after kill -9", i), "killed ")
	}
	if err := outside.ip("link set port2 down"); err != nil {
		t.Fatal(err)
	}
	await(t, patient, func() error { // no answer is a success while a copy that has to know is missing
		got, err := c.once(0, "SET", "key", "lost")
		if err == nil && got == "OK" {
			return errors.New("a write was acknowledged without a node that serves reads")
		}
		return nil
	})
	if err := outside.ip("link set port2 up"); err != nil {
		t.Fatal(err)
	}
	everywhere("the cable is back", "cable ")
}
