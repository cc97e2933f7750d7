//go:build verbs && cgo && linux

package verbs

import "bytes"

// Devices lists the RDMA devices of this machine.
func Devices() ([]Device, error) {
	names, err := deviceNames()
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, name := range names {
		out = append(out, inspect(name))
	}
	return out, nil
}

func inspect(name string) Device {
	info := Device{Name: name}
	d, err := openDevice(name)
	if err != nil {
		info.Err = err
		return info
	}
	defer d.close()
	f := capabilities(d)
	info.Vendor, info.Part, info.QueueDepth = uint32(d.about.vendor), uint32(d.about.part), int(d.about.max_wr)
	info.Atomics, info.AtomicWrite = f&atomics != 0, f&atomicWrite != 0
	info.FlushVisible, info.FlushDurable = f&flushVisible != 0, f&flushDurable != 0
	firmware := make([]byte, 0, len(d.about.firmware))
	for _, b := range d.about.firmware {
		firmware = append(firmware, byte(b))
	}
	firmware, _, _ = bytes.Cut(firmware, []byte{0})
	info.Firmware = string(firmware)
	gids, err := d.gids()
	if err != nil {
		info.Err = err
		return info
	}
	for _, g := range gids {
		if len(info.Ports) == 0 || info.Ports[len(info.Ports)-1].Number != g.port {
			p, err := d.port(g.port)
			if err != nil {
				info.Err = err
				return info
			}
			link := "InfiniBand"
			if p.link == linkEthernet {
				link = "Ethernet"
			}
			info.Ports = append(info.Ports, Port{Number: g.port, Active: p.state == portActive, Link: link})
		}
		port := &info.Ports[len(info.Ports)-1]
		port.GIDs = append(port.GIDs, GID{Index: g.index, Type: gidKinds[g.kind%len(gidKinds)], Addr: g.addr().String()})
	}
	return info
}
