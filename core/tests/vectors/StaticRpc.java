package org.apache.catalina.tribes.group;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

import org.apache.catalina.tribes.ByteMessage;
import org.apache.catalina.tribes.Member;
import org.apache.catalina.tribes.io.XByteBuffer;
import org.apache.catalina.tribes.membership.MemberImpl;
import org.apache.catalina.tribes.membership.StaticMember;
import org.apache.catalina.tribes.membership.StaticMembershipProvider.MemberMessage;

/** Writes static_rpc.json; README.md says how. Stands in RpcMessage's package to reach its protected fields. */
public class StaticRpc {
    static final String[] TYPES = {"", "start", "stop", "ping"};
    static final List<String> CASES = new ArrayList<>();

    static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    static byte[] pattern(int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) bytes[i] = (byte) (31 * i + 7);
        return bytes;
    }

    static byte[] id(int from) {
        byte[] bytes = new byte[16];
        for (int i = 0; i < 16; i++) bytes[i] = (byte) (from + i);
        return bytes;
    }

    static byte[] latin1(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    static <M extends MemberImpl> M member(M member, String domain, byte[] payload, byte[] command) {
        member.setUniqueId(id(1));
        if (domain != null) member.setDomain(latin1(domain));
        if (payload != null) member.setPayload(payload);
        if (command != null) member.setCommand(command);
        return member;
    }

    static void add(String name, String kind, int type, boolean reply, String memberClass, byte[] membershipId,
            byte[] rpcId, byte[] uuid, byte[] stream) {
        CASES.add(String.format(
                "  {\"name\": \"%s\", \"kind\": \"%s\", \"type\": %d, \"reply\": %s, \"member_class\": \"%s\", "
                        + "\"membership_id\": \"%s\", \"rpc_id\": \"%s\", \"uuid\": \"%s\",\n   \"stream\": \"%s\"}",
                name, kind, type, reply, memberClass, hex(membershipId), hex(rpcId), hex(uuid), hex(stream)));
    }

    static void other(String name, String kind, int type, boolean reply, byte[] rpcId, byte[] uuid, byte[] stream) {
        add(name, kind, type, reply, "", new byte[0], rpcId, uuid, stream);
    }

    static RpcMessage rpc(byte[] rpcId, byte[] uuid, java.io.Serializable body, boolean reply) {
        RpcMessage message = new RpcMessage(rpcId, uuid, body);
        message.reply = reply;
        return message;
    }

    public static void main(String[] args) throws Exception {
        byte[] mid = latin1("ch-StaticMembership"), uuid = id(0xA0), none = new byte[0];
        Object[][] shapes = {
            {"minimal", member(new MemberImpl("127.0.0.1", 4000, 1234), null, null, null)},
            {"domain and payload", member(new MemberImpl("127.0.0.1", 4000, 1234), "dom-b", pattern(40), null)},
            {"payload over 255", member(new MemberImpl("127.0.0.1", 4000, 1234), null, pattern(300), null)},
            {"payload over 1024", member(new MemberImpl("127.0.0.1", 4000, 1234), "catalina", pattern(2500), null)},
            {"shutdown command", member(new MemberImpl("127.0.0.1", 4000, 1234), null, null, Member.SHUTDOWN_PAYLOAD)},
            {"static", member(new StaticMember("127.0.0.1", 4000, 1234), "dom-b", pattern(3), null)},
            {"ipv6", member(new MemberImpl("2001:db8::1", 4000, 1234), null, null, null)},
        };
        for (Object[] shape : shapes) {
            MemberImpl member = (MemberImpl) shape[1];
            String cls = member.getClass().getSimpleName();
            for (int type = 1; type <= 3; type++) {
                MemberMessage message = new MemberMessage(mid, type, member);
                String name = TYPES[type] + ", " + shape[0];
                add(name + ", bare", "member", type, false, cls, mid, none, none, XByteBuffer.serialize(message));
                add(name + ", request", "rpc", type, false, cls, mid, mid, uuid,
                        XByteBuffer.serialize(rpc(mid, uuid, message, false)));
                add(name + ", reply", "rpc", type, true, cls, mid, mid, uuid,
                        XByteBuffer.serialize(rpc(mid, uuid, message, true)));
            }
        }
        // What a reply really is: the request as it was read, with its member replaced.
        MemberImpl local = member(new MemberImpl("127.0.0.1", 4000, 1234), "dom-b", pattern(3), null);
        StaticMember asking = member(new StaticMember("127.0.0.1", 4001, 99), null, null, null);
        RpcMessage read = (RpcMessage) XByteBuffer.deserialize(
                XByteBuffer.serialize(rpc(mid, uuid, new MemberMessage(mid, 1, asking), false)));
        ((MemberMessage) read.message).setMember(local);
        read.reply = true;
        add("start, reply made of the parsed request", "rpc", 1, true, "MemberImpl", mid, mid, uuid,
                XByteBuffer.serialize(read));
        byte[] big = pattern(1500);
        add("ping, ids of 1500 bytes", "rpc", 3, false, "MemberImpl", big, big, uuid,
                XByteBuffer.serialize(rpc(big, uuid, new MemberMessage(big, 3, local), false)));
        other("reply without a body", "rpc-null", 0, true, mid, uuid, XByteBuffer.serialize(rpc(mid, uuid, null, true)));
        other("no-rpc-channel reply", "no-rpc-channel", 0, true, mid, uuid,
                XByteBuffer.serialize(new RpcMessage.NoRpcChannelReply(mid, uuid)));
        other("no-rpc-channel reply, rpc id of 1500 bytes", "no-rpc-channel", 0, true, big, uuid,
                XByteBuffer.serialize(new RpcMessage.NoRpcChannelReply(big, uuid)));
        for (int length : new int[] {5, 3000}) {
            other("request with a ByteMessage of " + length + " bytes", "rpc-bytes", length, false, mid, uuid,
                    XByteBuffer.serialize(rpc(mid, uuid, new ByteMessage(pattern(length)), false)));
        }
        other("request with a String", "rpc-other", 0, false, mid, uuid,
                XByteBuffer.serialize(rpc(mid, uuid, "question", false)));
        Files.writeString(Path.of(args[0]), "{\n \"cases\": [\n" + String.join(",\n", CASES) + "\n ]\n}\n");
    }
}
