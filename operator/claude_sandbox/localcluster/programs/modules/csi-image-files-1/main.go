// Command csi-image-files is a CSI driver for one node, for tests: each volume is a file with an ext4 file system, and
// a snapshot is a copy of it that is made while the file system is frozen. So it is of one moment, by the kernel's word.
//
// It holds nothing: an image that is whole has its name, and where one is mounted the kernel says.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	name         = "image-files.csi.claudesandbox.dev"
	smallest     = 16 << 20
	fifreeze     = 0xc0045877
	fithaw       = 0xc0045878
	writable     = 0o700
	mountedTable = "/proc/self/mountinfo"
)

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	directory, node, endpoint string
}

func main() {
	endpoint := flag.String("endpoint", "", "socket for the kubelet and the sidecars")
	registry := flag.String("registration", "", "socket by which the kubelet learns of the driver")
	directory := flag.String("directory", "", "where the images are")
	node := flag.String("node", "", "the node's name")
	flag.Parse()
	d := &driver{directory: *directory, node: *node, endpoint: *endpoint}
	for _, kind := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(*directory, kind), writable); err != nil {
			log.Fatal(err)
		}
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(logged))
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterNodeServer(server, d)
	go serve(server, *endpoint)
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, &registered{endpoint: *endpoint})
	serve(registrar, *registry)
}

func serve(server *grpc.Server, socket string) {
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}

func logged(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	answer, err := next(ctx, request)
	if err != nil {
		log.Printf("%s: %v", info.FullMethod, err)
	}
	return answer, err
}

// The kubelet's way to know of the driver.

type registered struct {
	registration.UnimplementedRegistrationServer
	endpoint string
}

func (r *registered) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registered) NotifyRegistrationStatus(
	_ context.Context, told *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	log.Printf("registered: %v %s", told.PluginRegistered, told.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

// Identity.

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	capability := &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: service}}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{capability}}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// Controller.

func (d *driver) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	} {
		rpc := &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}}
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{Type: rpc})
	}
	return answer, nil
}

func (d *driver) CreateVolume(_ context.Context, asked *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	size := max(asked.GetCapacityRange().GetRequiredBytes(), smallest)
	image := d.volume(asked.GetName())
	source := asked.GetVolumeContentSource().GetSnapshot()
	err := made(image, func(partial string) error {
		if source != nil {
			return run("cp", "--sparse=always", "--reflink=auto", d.snapshot(source.GetSnapshotId()), partial)
		}
		if err := run("truncate", "-s", fmt.Sprint(size), partial); err != nil {
			return err
		}
		return run("mkfs.ext4", "-q", "-F", "-m", "0", partial)
	})
	if err != nil {
		return nil, err
	}
	found := &csi.Volume{VolumeId: asked.GetName(), CapacityBytes: size, ContentSource: asked.GetVolumeContentSource()}
	return &csi.CreateVolumeResponse{Volume: found}, nil
}

func (d *driver) DeleteVolume(_ context.Context, asked *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if mounted(d.volume(asked.GetVolumeId())) != "" {
		return nil, status.Error(codes.FailedPrecondition, "the volume is mounted")
	}
	return &csi.DeleteVolumeResponse{}, removed(d.volume(asked.GetVolumeId()))
}

func (d *driver) ValidateVolumeCapabilities(
	_ context.Context, asked *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	confirmed := &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: asked.GetVolumeCapabilities()}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: confirmed}, nil
}

func (d *driver) CreateSnapshot(
	_ context.Context, asked *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	volume, image := d.volume(asked.GetSourceVolumeId()), d.snapshot(asked.GetName())
	err := made(image, func(partial string) error {
		if place := mounted(volume); place != "" {
			thaw, err := frozen(place)
			if err != nil {
				return err
			}
			defer thaw()
		}
		return run("cp", "--sparse=always", "--reflink=auto", volume, partial)
	})
	if err != nil {
		return nil, err
	}
	file, err := os.Stat(image)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.CreateSnapshotResponse{Snapshot: &csi.Snapshot{
		SnapshotId: asked.GetName(), SourceVolumeId: asked.GetSourceVolumeId(), SizeBytes: file.Size(),
		CreationTime: timestamppb.New(file.ModTime()), ReadyToUse: true,
	}}, nil
}

func (d *driver) DeleteSnapshot(
	_ context.Context, asked *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	return &csi.DeleteSnapshotResponse{}, removed(d.snapshot(asked.GetSnapshotId()))
}

// Node.

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	stages := &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}
	capability := &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: stages}}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{capability}}, nil
}

func (d *driver) NodeStageVolume(
	_ context.Context, asked *csi.NodeStageVolumeRequest,
) (*csi.NodeStageVolumeResponse, error) {
	image, place := d.volume(asked.GetVolumeId()), asked.GetStagingTargetPath()
	if mounted(image) == place {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if err := run("mount", "-o", "loop", image, place); err != nil {
		return nil, err
	}
	// Whose volume it is could not read it.
	_ = os.Remove(filepath.Join(place, "lost+found"))
	return &csi.NodeStageVolumeResponse{}, nil
}

func (d *driver) NodeUnstageVolume(
	_ context.Context, asked *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	return &csi.NodeUnstageVolumeResponse{}, unmounted(asked.GetStagingTargetPath())
}

func (d *driver) NodePublishVolume(
	_ context.Context, asked *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	place := asked.GetTargetPath()
	if err := os.MkdirAll(place, 0o750); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := unmounted(place); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, run("mount", "--bind", asked.GetStagingTargetPath(), place)
}

func (d *driver) NodeUnpublishVolume(
	_ context.Context, asked *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := unmounted(asked.GetTargetPath()); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, removed(asked.GetTargetPath())
}

// What all of it is made of.

func (d *driver) volume(id string) string {
	return filepath.Join(d.directory, "volumes", filepath.Base(id))
}

func (d *driver) snapshot(id string) string {
	return filepath.Join(d.directory, "snapshots", filepath.Base(id))
}

// made has an image made where there is none: only what is whole has its name.
func made(image string, how func(partial string) error) error {
	if _, err := os.Stat(image); err == nil {
		return nil
	}
	partial := image + ".partial"
	if err := how(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, image); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

// frozen stops all writes to a file system, with what was written on its disk, until the function it gives is called.
func frozen(place string) (func(), error) {
	directory, err := os.Open(place)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := unix.IoctlSetInt(int(directory.Fd()), fifreeze, 0); err != nil {
		directory.Close()
		return nil, status.Error(codes.Internal, "freezing: "+err.Error())
	}
	return func() {
		if err := unix.IoctlSetInt(int(directory.Fd()), fithaw, 0); err != nil {
			log.Printf("thawing %s: %v", place, err)
		}
		directory.Close()
	}, nil
}

// mounted is where an image is mounted first; empty where it is nowhere.
func mounted(image string) string {
	table, err := os.ReadFile(mountedTable)
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range strings.Split(string(table), "\n") {
		place, device, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		words, source := strings.Fields(place), strings.Fields(device)[1]
		backing, err := os.ReadFile("/sys/block/" + filepath.Base(source) + "/loop/backing_file")
		if err == nil && filepath.Base(strings.TrimSpace(string(backing))) == filepath.Base(image) {
			return words[4]
		}
	}
	return ""
}

func unmounted(place string) error {
	table, err := os.ReadFile(mountedTable)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if !strings.Contains(string(table), " "+place+" ") {
		return nil
	}
	return run("umount", place)
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

func run(command string, arguments ...string) error {
	if output, err := exec.Command(command, arguments...).CombinedOutput(); err != nil {
		return status.Errorf(codes.Internal, "%s: %v: %s", command, err, output)
	}
	return nil
}
