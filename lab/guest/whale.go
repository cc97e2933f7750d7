//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"whale/pmem"
)

// cluster is three nodes of Whale, one on each host, whose memory is a device of device DAX.
type cluster struct {
	*step
	fabric string
	dir    string
	nodes  [hosts]*process
}

const redisPort = "7001"

// whale runs a cluster with real clients on it, loses a node's process and all of them, and has the history of concurrent
// clients checked for linearizability.
func whale(s *step, fabric string) error {
	flushes, err := flushProbe()
	if err != nil {
		return err
	}
	before, err := packets(0)
	if err != nil {
		return err
	}
	c := &cluster{step: s, fabric: fabric, dir: "/tmp/" + s.name}
	for _, part := range []func() error{c.prepare, c.startAll, c.domains, c.commands, c.benchmark, c.killAll, c.linearizable} {
		if err := part(); err != nil {
			return err
		}
	}
	if fabric == "verbs" {
		return s.crossed(flushes, before)
	}
	return nil
}

// prepare makes the secret and empty memories.
func (c *cluster) prepare() error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	for i := range hosts {
		if err := zero(memberDevice(i)); err != nil {
			return err
		}
	}
	return os.WriteFile(c.dir+"/secret", []byte(strings.Repeat("5ec2e7", 11)[:64]+"\n"), 0o600)
}

// zero overwrites a device, as an earlier step may have used it.
func zero(path string) error {
	m, err := pmem.Map(path, 0, pmem.Options{})
	if err != nil {
		return err
	}
	clear(m.Bytes())
	if err := m.Sync(0, uint64(len(m.Bytes()))); err != nil {
		return err
	}
	return m.Close()
}

func (c *cluster) start(i int) error {
	var peers []string
	for j := range hosts {
		peers = append(peers, hostAddress(j)+":7101")
	}
	args := []string{"/bin/whale", "serve", "--id", fmt.Sprint(i), "--peers", strings.Join(peers, ","), "--fabric", c.fabric, "--insecure",
		"--dir", fmt.Sprintf("%s/%d", c.dir, i), "--memory", memberDevice(i), "--secret", c.dir + "/secret", "--listen", hostAddress(i) + ":" + redisPort}
	if c.fabric == "verbs" {
		args = append(args, "--device", deviceName(i))
	}
	var err error
	c.nodes[i], err = c.step.start(c.command(hostName(i), nil, args...))
	return err
}

func (c *cluster) startAll() error {
	for i := range hosts {
		if err := c.start(i); err != nil {
			return err
		}
	}
	return c.serving()
}

// serving waits until each node takes a write.
func (c *cluster) serving() error {
	for i := range hosts {
		err := c.while(c.nodes[i], fmt.Sprintf("node %d takes a write", i), func() bool {
			return c.quietly(i, "SET", "ready", "1") == "OK"
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cli is what redis-cli prints for a command at node i.
func (c *cluster) cli(i int, args ...string) (string, error) {
	return c.output("", append([]string{"redis-cli", "-h", hostAddress(i), "-p", redisPort}, args...)...)
}

// quietly is cli where nothing need answer yet.
func (c *cluster) quietly(i int, args ...string) string {
	out, _ := exec.CommandContext(c.ctx, "redis-cli", append([]string{"-h", hostAddress(i), "-p", redisPort}, args...)...).Output()
	return strings.TrimRight(string(out), "\n")
}

// domains sees that each node's memory is what the device gives.
func (c *cluster) domains() error {
	for i := range hosts {
		info, err := c.cli(i, "INFO")
		if err != nil {
			return err
		}
		if !strings.Contains(info, "whale_durable_in:"+domain) {
			return fmt.Errorf("INFO of node %d does not have whale_durable_in:%s:\n%s", i, domain, info)
		}
	}
	return nil
}

// commands are written at each node and read at each.
func (c *cluster) commands() error {
	for i := range hosts {
		key := fmt.Sprint("key", i)
		for _, step := range []struct {
			node int
			want string
			args []string
		}{
			{i, "PONG", []string{"PING"}},
			{i, "OK", []string{"SET", key, "value"}},
			{0, "value", []string{"GET", key}},
			{1, "value", []string{"GET", key}},
			{2, "value", []string{"GET", key}},
			{i, "9", []string{"APPEND", key, "more"}},
			{(i + 1) % hosts, "valuemore", []string{"GET", key}},
			{i, "42", []string{"INCRBY", key + ":n", "42"}},
			{(i + 2) % hosts, "41", []string{"DECR", key + ":n"}},
			{i, "OK", []string{"MSET", key + ":a", "1", key + ":b", "2"}},
			{(i + 1) % hosts, "1\n2", []string{"MGET", key + ":a", key + ":b"}},
			{i, "2", []string{"DEL", key + ":a", key + ":b"}},
		} {
			if got, err := c.cli(step.node, step.args...); err != nil || got != step.want {
				return fmt.Errorf("node %d: %s: got %q, %v, expected %q", step.node, strings.Join(step.args, " "), got, err, step.want)
			}
		}
	}
	return nil
}

func (c *cluster) benchmark() error {
	for i := range hosts {
		for _, more := range [][]string{nil, {"-P", "16"}} {
			out, err := c.output("", append([]string{"redis-benchmark", "-h", hostAddress(i), "-p", redisPort, "-t", "set,get", "-d", "64", "-r", "1000",
				"-n", "2000", "-c", "10", "--csv"}, more...)...)
			if err != nil {
				return err
			}
			if strings.Contains(strings.ToLower(out), "error") || !strings.Contains(out, `"SET"`) || !strings.Contains(out, `"GET"`) {
				return fmt.Errorf("redis-benchmark at node %d: %s", i, out)
			}
			for line := range strings.Lines(out) {
				if fields := strings.Split(line, ","); len(fields) > 1 && fields[0] != `"test"` {
					c.note("node %d, redis-benchmark -c 10 %s: %s %s requests/s", i, strings.Join(more, " "), strings.Trim(fields[0], `"`), strings.Trim(fields[1], `"`))
				}
			}
		}
	}
	return nil
}

// killAll ends all nodes at once, as a loss of the machine's processes does: what was acknowledged is in the devices.
func (c *cluster) killAll() error {
	if got, err := c.cli(1, "SET", "kept", "yes"); err != nil || got != "OK" {
		return fmt.Errorf("SET at node 1: %q, %v", got, err)
	}
	for _, node := range c.nodes {
		unix.Kill(-node.Process.Pid, unix.SIGKILL)
	}
	for _, node := range c.nodes {
		<-node.ended
	}
	if err := c.startAll(); err != nil {
		return err
	}
	for i := range hosts {
		for key, want := range map[string]string{"kept": "yes", "key0": "valuemore", "key1:n": "41"} {
			if got, err := c.cli(i, "GET", key); err != nil || got != want {
				return fmt.Errorf("after kill -9 of all nodes, GET %s at node %d: %q, %v, expected %q", key, i, got, err, want)
			}
		}
	}
	return nil
}

// linearizable has the history of concurrent clients at all nodes checked, by the tests of internal/e2e.
func (c *cluster) linearizable() error {
	var addrs []string
	for i := range hosts {
		addrs = append(addrs, hostAddress(i)+":"+redisPort)
	}
	return c.test([]string{"WHALE_E2E_ADDRS=" + strings.Join(addrs, ",")}, "e2e.test", "-test.short",
		"-test.run", "^(TestLinearizable|TestCheckerCatchesStaleReads|TestAcknowledgedWriteIsReadEverywhere)$")
}
