// SPDX-License-Identifier: Apache-2.0

package process

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/plain"
)

// creationTime is RFC 3339, always with milliseconds.
const creationTime = "2006-01-02T15:04:05.000Z07:00"

// Resource returns the process as a resource. Attributes that are not known are absent. For no
// process (PID 0) it is the resource of the host.
func (p Process) Resource(rb *metadata.ResourceBuilder) pcommon.Resource {
	setText(rb.SetHostID, p.HostID)
	if p.PID == 0 {
		return rb.Emit()
	}
	rb.SetProcessPid(int64(p.PID))
	rb.SetProcessUserID(int64(p.UserID))
	rb.SetProcessRealUserID(int64(p.RealUserID))
	setText(rb.SetProcessCreationTime, p.Created.UTC().Format(creationTime))
	setText(rb.SetNettapProcessComm, p.Comm)
	setText(rb.SetProcessOwner, p.Owner)
	setText(rb.SetProcessExecutableName, p.Executable)
	setText(rb.SetProcessExecutablePath, p.ExecutablePath)
	setText(rb.SetProcessCommandLine, p.CommandLine)
	setNumber(rb.SetProcessParentPid, p.ParentPID)
	setNumber(rb.SetProcessVpid, p.VPID)
	setText(rb.SetProcessLinuxCgroup, p.Cgroup)
	setText(rb.SetContainerID, p.ContainerID)
	setText(rb.SetK8sPodUID, p.PodUID)
	return rb.Emit()
}

// Host returns the resource for what belongs to no process.
func (d *Directory) Host(rb *metadata.ResourceBuilder) pcommon.Resource {
	return d.Describe(ID{}, Seen{}).Resource(rb)
}

// setText sets an attribute unless its value is unknown. Names of files and commands can contain
// any bytes, which are made valid text.
func setText(set func(string), value string) {
	if value != "" {
		set(plain.Text(value))
	}
}

func setNumber(set func(int64), value int) {
	if value != 0 {
		set(int64(value))
	}
}
