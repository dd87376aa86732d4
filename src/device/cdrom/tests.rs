//! Tests of the CD-ROM drive: packets and their answers.

use super::*;
use crate::media::MemoryDisk;

/// A drive with a disc of `blocks`, that has told of its power-on.
fn drive(blocks: usize) -> Cdrom {
    let mut drive = Cdrom::new(Box::new(MemoryDisk::new(vec![0; blocks * BLOCK])));
    assert_eq!(run(&mut drive, &[TEST_UNIT_READY]), Err(Sense::POWER_ON));
    drive
}

fn run(drive: &mut Cdrom, bytes: &[u8]) -> Result<Reply, Sense> {
    let mut packet = [0; 12];
    packet[..bytes.len()].copy_from_slice(bytes);
    drive.command(&packet)
}

#[track_caller]
fn data(drive: &mut Cdrom, bytes: &[u8]) -> Vec<u8> {
    match run(drive, bytes) {
        Ok(Reply::Data(data)) => data,
        other => panic!("{bytes:x?}: {other:?}"),
    }
}

fn sense(drive: &mut Cdrom) -> [u8; 3] {
    let data = data(drive, &[REQUEST_SENSE, 0, 0, 0, 18]);
    [data[2], data[12], data[13]]
}

const EJECT: [u8; 5] = [START_STOP_UNIT, 0, 0, 0, 2];
const LOAD: [u8; 5] = [START_STOP_UNIT, 0, 0, 0, 3];

#[test]
fn attention_is_told_once_by_the_first_command_that_needs_the_drive() {
    let mut d = Cdrom::new(Box::new(MemoryDisk::new(vec![0; BLOCK])));
    assert_eq!(data(&mut d, &[INQUIRY, 0, 0, 0, 36])[8..16], *b"SUBRING ");
    assert_eq!(run(&mut d, &[READ_CAPACITY]), Err(Sense::POWER_ON));
    assert_eq!(sense(&mut d), [6, 0x29, 0]);
    assert_eq!(sense(&mut d), [0, 0, 0]);
    assert_eq!(run(&mut d, &[TEST_UNIT_READY]), Ok(Reply::Nothing));
    d.reset();
    assert_eq!(sense(&mut d), [6, 0x29, 0], "or by REQUEST SENSE itself");
    assert_eq!(run(&mut d, &[TEST_UNIT_READY]), Ok(Reply::Nothing));
}

#[test]
fn blocks_are_read_up_to_the_last_one() {
    let mut d = drive(100);
    assert_eq!(data(&mut d, &[READ_CAPACITY]), [0, 0, 0, 99, 0, 0, 8, 0]);
    let read = [READ_10, 0, 0, 0, 0, 99, 0, 0, 1];
    assert_eq!(run(&mut d, &read), Ok(Reply::Blocks { lba: 99, count: 1 }));
    assert_eq!(run(&mut d, &[READ_10, 0, 0, 0, 0, 99, 0, 0, 2]), Err(Sense::OUT_OF_RANGE));
    assert_eq!(sense(&mut d), [5, 0x21, 0]);
    assert_eq!(run(&mut d, &[READ_10, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff]), Err(Sense::OUT_OF_RANGE));
    assert_eq!(run(&mut d, &[READ_10, 0, 0, 0, 0, 5, 0, 0, 0]), Ok(Reply::Nothing));
    assert_eq!(
        run(&mut d, &[READ_12, 0, 0, 0, 0, 0, 0, 0, 0, 100]),
        Ok(Reply::Blocks { lba: 0, count: 100 })
    );
    assert_eq!(run(&mut d, &[SEEK_10, 0, 0, 0, 0, 100]), Err(Sense::OUT_OF_RANGE));
}

#[test]
fn read_cd_gives_the_user_data_of_mode_1_and_nothing_else() {
    let mut d = drive(100);
    let mut read = [READ_CD, 2 << 2, 0, 0, 0, 16, 0, 0, 4, 0x10, 0];
    assert_eq!(run(&mut d, &read), Ok(Reply::Blocks { lba: 16, count: 4 }));
    read[9] = 0;
    assert_eq!(run(&mut d, &read), Ok(Reply::Nothing));
    read[9] = 0xf8;
    assert_eq!(run(&mut d, &read), Err(Sense::INVALID_FIELD), "no headers in an image");
    read[1] = 1 << 2;
    assert_eq!(run(&mut d, &read), Err(Sense::ILLEGAL_MODE), "no audio");
}

#[test]
fn the_table_of_contents_has_a_data_track_and_the_lead_out() {
    let mut d = drive(450);
    let toc = data(&mut d, &[READ_TOC, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(toc, [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 1, 0xc2]);
    let msf = data(&mut d, &[READ_TOC, 2, 0, 0, 0, 0, 0xaa, 1, 0]);
    assert_eq!(msf, [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 8, 0], "450 + 150 frames are 8 seconds");
    let sessions = [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0];
    assert_eq!(data(&mut d, &[READ_TOC, 0, 1, 0, 0, 0, 0, 0, 12]), sessions);
    assert_eq!(data(&mut d, &[READ_TOC, 0, 0, 0, 0, 0, 0, 0, 12, 0x40]), sessions, "as ATAPI first had it");
    assert_eq!(data(&mut d, &[READ_TOC, 0, 0, 0, 0, 0, 0, 0, 4]).len(), 4, "no more than there is room for");
    assert_eq!(run(&mut d, &[READ_TOC, 0, 0, 0, 0, 0, 2, 1, 0]), Err(Sense::INVALID_FIELD));
    assert_eq!(run(&mut d, &[READ_TOC, 0, 2, 0, 0, 0, 0, 1, 0]), Err(Sense::INVALID_FIELD));
}

#[test]
fn an_ejected_disc_is_not_there_and_a_loaded_one_is_new() {
    let mut d = drive(10);
    let event = [GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8];
    assert_eq!(data(&mut d, &event), [0, 6, 4, 0x10, 0, 2, 0, 0]);
    run(&mut d, &[PREVENT_ALLOW, 0, 0, 0, 1]).unwrap();
    assert_eq!(run(&mut d, &EJECT), Err(Sense::LOCKED));
    run(&mut d, &[PREVENT_ALLOW]).unwrap();
    run(&mut d, &EJECT).unwrap();
    assert_eq!(data(&mut d, &event), [0, 6, 4, 0x10, 3, 1, 0, 0]);
    assert_eq!(data(&mut d, &event)[4], 0, "an event is told once");
    for command in
        [TEST_UNIT_READY, READ_CAPACITY, READ_10, READ_TOC, READ_DISC_INFORMATION, READ_CD, SEEK_10]
    {
        assert_eq!(run(&mut d, &[command]), Err(Sense::TRAY_OPEN), "{command:x}");
    }
    assert_eq!(sense(&mut d), [2, 0x3a, 2]);
    assert_eq!(data(&mut d, &[MECHANISM_STATUS, 0, 0, 0, 0, 0, 0, 0, 0, 8])[1], 0x10);
    run(&mut d, &LOAD).unwrap();
    assert_eq!(run(&mut d, &[TEST_UNIT_READY]), Err(Sense::MEDIUM_CHANGED));
    assert_eq!(data(&mut d, &event)[4..6], [2, 2]);
    assert_eq!(run(&mut d, &[TEST_UNIT_READY]), Ok(Reply::Nothing));
}

#[test]
fn capabilities_come_by_both_mode_senses() {
    let mut d = drive(10);
    let six = data(&mut d, &[MODE_SENSE_6, 0, 0x2a, 0, 255]);
    let ten = data(&mut d, &[MODE_SENSE_10, 0, 0x2a, 0, 0, 0, 0, 1, 0]);
    assert_eq!((six.len(), six[0], ten.len(), ten[1]), (24, 23, 28, 26));
    assert_eq!(six[4..], ten[8..]);
    assert_eq!(six[4..8], [0x2a, 18, 3, 0]);
    let changeable = data(&mut d, &[MODE_SENSE_10, 0, 0x7f, 0, 0, 0, 0, 1, 0]);
    assert!(changeable[10..16].iter().chain(&changeable[18..]).all(|&b| b == 0), "{changeable:x?}");
    assert_eq!(run(&mut d, &[MODE_SENSE_10, 0, 0xea, 0, 0, 0, 0, 1, 0]), Err(Sense::NO_SAVING));
    assert_eq!(run(&mut d, &[MODE_SENSE_10, 0, 0x08, 0, 0, 0, 0, 1, 0]), Err(Sense::INVALID_FIELD));
}

#[test]
fn configuration_lists_features_from_the_one_asked_for() {
    let mut d = drive(10);
    let all = data(&mut d, &[GET_CONFIGURATION, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(all[..16], [0, 0, 0, 48, 0, 0, 0, 8, 0, 0, 3, 4, 0, 8, 1, 0]);
    assert_eq!(all.len(), 52);
    let one = data(&mut d, &[GET_CONFIGURATION, 2, 0, 0x1e, 0, 0, 0, 1, 0]);
    assert_eq!(one[8..], [0, 0x1e, 9, 4, 0, 0, 0, 0]);
    run(&mut d, &EJECT).unwrap();
    let current = data(&mut d, &[GET_CONFIGURATION, 1, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!((current.len(), current[7]), (8 + 3 * 8, 0), "not those of a disc that is not there");
}

#[test]
fn what_is_not_built_is_an_invalid_operation_code() {
    let mut d = drive(10);
    for command in [0x2a, 0x04, 0x55, 0xb9, 0xff] {
        assert_eq!(run(&mut d, &[command]), Err(Sense::INVALID_OPCODE), "{command:x}");
    }
    assert_eq!(sense(&mut d), [5, 0x20, 0]);
    assert_eq!(run(&mut d, &[INQUIRY, 1, 0x80, 0, 36]), Err(Sense::INVALID_FIELD));
    assert_eq!(run(&mut d, &[GET_EVENT_STATUS, 0, 0, 0, 0x10, 0, 0, 0, 8]), Err(Sense::INVALID_FIELD));
    assert_eq!(run(&mut d, &[INQUIRY]), Ok(Reply::Nothing), "no room for an answer");
}

/// No packet may panic, or name blocks that are not there; seeds are fixed.
#[test]
fn random_packets_do_no_harm() {
    let mut d = drive(1000);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for n in 0..200_000u32 {
        let mut packet = [0; 12];
        packet[..8].copy_from_slice(&random());
        packet[8..].copy_from_slice(&random()[..4]);
        packet[0] = n as u8;
        if n & 0x100 != 0 {
            // Small numbers, so that more of them are valid.
            packet[2..8].iter_mut().for_each(|b| *b &= 1);
        }
        match d.command(&packet) {
            Ok(Reply::Blocks { lba, count }) => assert!(count != 0 && lba + count <= 1000, "{packet:x?}"),
            Ok(Reply::Data(data)) => assert!(!data.is_empty() && data.len() < 256, "{packet:x?}"),
            Ok(Reply::Nothing) => {}
            Err(sense) => assert!(matches!(sense.key, 2 | 5 | 6), "{packet:x?}: {sense:x?}"),
        }
    }
}
