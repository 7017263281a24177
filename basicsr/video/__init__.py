"""Clips through a network, frame by frame, with all that their files hold beside the picture. Needs PyAV."""
